//! Calls that set a scenario up and ask for its state, over the daemon's socket. Never timed.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use crate::error::{BenchError, Doing, Result};
use crate::ledger::event_value;
use crate::wire::{self, Target};

/// A caller with one connection, which is reopened if the daemon closes it.
pub(crate) struct Api {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What the bench reads from `GET /v1/stats`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    /// Attempts that succeeded.
    pub(crate) succeeded: u64,
    /// Attempts that failed.
    pub(crate) failed: u64,
    /// Deliveries given up.
    pub(crate) abandoned: u64,
    /// Open deliveries before their first failed attempt.
    pub(crate) pending: u64,
    /// Open deliveries after it.
    pub(crate) retrying: u64,
}

fn get(path: &str) -> Builder {
    Request::get(path).header("host", "localhost")
}

impl Api {
    /// Returns a caller of the daemon at `target`.
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            sender: None,
        }
    }

    /// Closes the connection, so that not even an idle timeout is pending on it.
    pub(crate) fn hang_up(&mut self) {
        self.sender = None;
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            self.sender = Some(wire::connect(&self.target).await?);
        }
        let sender = self.sender.as_mut();
        sender.ok_or_else(|| BenchError::wrong("no connection to the daemon"))
    }

    async fn answer(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let sender = self.sender().await?;
        sender.ready().await.doing("waiting for a connection")?;
        let response = sender
            .send_request(request)
            .await
            .doing("calling the daemon")?;
        let code = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .doing("reading an answer")?;
        Ok((code, body.to_bytes()))
    }

    /// Sends a request, expecting this status. Returns the body of the answer.
    async fn expect(
        &mut self,
        request: Request<Full<Bytes>>,
        expected: StatusCode,
    ) -> Result<Bytes> {
        let what = format!("{} {}", request.method(), request.uri());
        let (code, body) = self.answer(request).await?;
        if code == expected {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        let wrong = format!("{what}: expected {expected}, got {code}: {text}");
        Err(BenchError::wrong(wrong))
    }

    /// `GET path`, with any status.
    pub(crate) async fn get_raw(&mut self, path: &str) -> Result<(StatusCode, Bytes)> {
        let request = get(path).body(Full::default());
        self.answer(request.doing("making a request")?).await
    }

    /// `GET path`, expecting 200 and JSON.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        let request = get(path).body(Full::default()).doing("making a request")?;
        let body = self.expect(request, StatusCode::OK).await?;
        serde_json::from_slice(&body).doing(format!("reading the answer of GET {path}"))
    }

    /// `GET path` with an `authorization` header or without one, expecting `expected`.
    pub(crate) async fn get_as(
        &mut self,
        path: &str,
        authorization: Option<&str>,
        expected: StatusCode,
    ) -> Result<()> {
        let mut request = get(path);
        if let Some(shown) = authorization {
            request = request.header("authorization", shown);
        }
        let request = request.body(Full::default()).doing("making a request")?;
        self.expect(request, expected).await.map(drop)
    }

    /// `POST path`, expecting `expected` and JSON.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: &Value,
        expected: StatusCode,
    ) -> Result<Value> {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()));
        let request = request.doing("making a request")?;
        let body = self.expect(request, expected).await?;
        serde_json::from_slice(&body).doing(format!("reading the answer of POST {path}"))
    }

    /// Creates an endpoint that subscribes to every type.
    pub(crate) async fn add_endpoint(
        &mut self,
        organization: &str,
        url: &str,
        secret: &str,
    ) -> Result<()> {
        let body = json!({
            "organizationId": organization, "url": url, "eventTypes": ["*"], "secret": secret,
        });
        self.post("/v1/endpoints", &body, StatusCode::CREATED)
            .await
            .map(drop)
    }

    /// Sends one event.
    pub(crate) async fn send_event(&mut self, organization: &str) -> Result<()> {
        let body = json!({
            "organizationId": organization, "type": "order.created", "data": {"orderId": 1},
        });
        self.post("/v1/events", &body, StatusCode::ACCEPTED)
            .await
            .map(drop)
    }

    /// Offers one event under an idempotency key. Returns its id; `None` if it has to be sent again, because it was refused
    /// for now, or because it is not known whether it was stored.
    pub(crate) async fn offer_event(
        &mut self,
        organization: &str,
        key: &str,
    ) -> Result<Option<u128>> {
        let body = json!({
            "organizationId": organization, "type": "order.created", "data": {"orderId": 1},
            "idempotencyKey": key,
        });
        let request = Request::post("/v1/events")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()));
        let (code, body) = self.answer(request.doing("making a request")?).await?;
        match code {
            StatusCode::ACCEPTED | StatusCode::OK => {
                let answer: Value = serde_json::from_slice(&body).doing("reading an answer")?;
                let id = answer.get("id").and_then(Value::as_str).unwrap_or("");
                let id = event_value(id.as_bytes());
                id.map(Some)
                    .ok_or_else(|| BenchError::wrong(format!("an answer without an id: {answer}")))
            }
            code if code.is_server_error() => Ok(None),
            code => Err(BenchError::wrong(format!(
                "offering an event: expected 202, 200 or 503, got {code}: {}",
                String::from_utf8_lossy(&body)
            ))),
        }
    }

    /// Returns the counters since the store was created, and the current queue.
    pub(crate) async fn stats(&mut self) -> Result<Stats> {
        let value = self.get("/v1/stats?window=all").await?;
        let read = |name: &str| {
            let number = value.get(name).and_then(Value::as_u64);
            number.ok_or_else(|| BenchError::wrong(format!("GET /v1/stats has no number {name}")))
        };
        Ok(Stats {
            succeeded: read("delivery.success.count")?,
            failed: read("delivery.failure.count")?,
            abandoned: read("delivery.abandoned.count")?,
            pending: read("queue.pending")?,
            retrying: read("queue.retrying")?,
        })
    }
}

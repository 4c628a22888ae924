//! HTTP/1.1 to a daemon, over its Unix socket or to another machine: one connection per call, every answer bounded in
//! size and time.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::holder::holds;
use crate::refusal::Refusal;
use crate::remote::{Remote, Stream};
use crate::socket::{self, connect, reason};

/// A page of 250 rows, or one event with its data, is far below this.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long an ordinary call may take: `endpoint test` waits for a receiver, bounded by `delivery.timeout`.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(90);

/// A body to send: whole, or streamed.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A client of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    place: Place,
}

/// Where the daemon is.
#[derive(Debug, Clone)]
enum Place {
    /// At this socket.
    Socket(PathBuf),
    /// Elsewhere.
    Remote(Arc<Remote>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Remote(remote) => f.write_str(&remote.shown()),
        }
    }
}

/// A successful response of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its headers.
    pub(crate) headers: http::HeaderMap,
    /// Its bytes.
    pub(crate) body: Bytes,
}

impl Answer {
    /// Returns the response as JSON.
    pub(crate) fn value(&self) -> Result<Value, Failure> {
        self.read()
    }

    /// Parses the response as a type of the API.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::No(format!("the daemon's response doesn't match the API ({error}): check that no other program, or other version, answers there")))
    }
}

impl Client {
    /// Returns a client of the first of these sockets that something listens on.
    pub(crate) async fn find(sockets: &[PathBuf]) -> Result<Self, Failure> {
        let mut tried = Vec::new();
        for path in sockets {
            match connect(path).await {
                Ok(_) => return Ok(Self::at(path.clone())),
                Err(error) => tried.push((path.clone(), reason(&error))),
            }
        }
        Err(Failure::Unreachable(socket::unreachable(&tried)))
    }

    /// Returns a client of the first of these sockets whose listener has this file open, as far as the system shows it.
    pub(crate) async fn of_holder(sockets: &[PathBuf], file: &Path) -> Option<Self> {
        for path in sockets {
            let Ok(stream) = connect(path).await else {
                continue;
            };
            let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
            if peer.is_some_and(|process| holds(process, file)) {
                return Some(Self::at(path.clone()));
            }
        }
        None
    }

    /// Returns a client of the daemon at this socket, whether it is running yet or not.
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self {
            place: Place::Socket(socket),
        }
    }

    /// Returns a client of a daemon elsewhere, whether it is reachable or not.
    pub(crate) fn of_remote(remote: Remote) -> Self {
        Self {
            place: Place::Remote(Arc::new(remote)),
        }
    }

    /// Returns where the daemon is, for people.
    pub(crate) fn place(&self) -> String {
        self.place.to_string()
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, CALL_TIMEOUT).await
    }

    /// Sends a request with a JSON body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Failure> {
        self.call(
            method,
            path,
            Some(Bytes::from(body.to_string())),
            CALL_TIMEOUT,
        )
        .await
    }

    /// Sends a POST without a body.
    pub(crate) async fn post(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::POST, path, None, CALL_TIMEOUT).await
    }

    /// Makes one call: returns the whole response, or [`Failure::Refused`] with the daemon's error.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let content_type = json.as_ref().map(|_| "application/json");
        let body = match json {
            Some(bytes) => whole(bytes),
            None => empty(),
        };
        let request = self.request(method, path, content_type, None, body)?;
        self.answered(path, request, within).await
    }

    /// Sends a POST of JSON under an idempotency key.
    pub(crate) async fn post_keyed(
        &self,
        path: &str,
        json: Bytes,
        key: &str,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let json_type = Some("application/json");
        let request = self.request(Method::POST, path, json_type, Some(key), whole(json))?;
        self.answered(path, request, within).await
    }

    async fn answered(
        &self,
        path: &str,
        request: Request<Body>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let exchange = async {
            let response = self.begin(path, request).await?;
            let headers = response.headers().clone();
            let body = self.collect(response.into_body()).await?;
            Ok(Answer { headers, body })
        };
        tokio::time::timeout(within, exchange).await.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!(
                "the daemon at {} didn't answer within {} s: check its log and `stormhook stats`",
                self.place,
                within.as_secs()
            )))
        })
    }

    /// Makes a call whose response is read as it arrives. An error response is read whole and becomes
    /// [`Failure::Refused`].
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(method, path, content_type, None, body)?;
        self.begin(path, request).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        key: Option<&str>,
        body: Body,
    ) -> Result<Request<Body>, Failure> {
        let agent = concat!("stormhook-cli/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, agent);
        request = match &self.place {
            Place::Socket(_) => request.header(header::HOST, "localhost"),
            Place::Remote(remote) => request
                .header(header::HOST, remote.authority())
                .header(header::AUTHORIZATION, remote.authorization()),
        };
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request
            .body(body)
            .map_err(|error| Failure::Usage(format!("can't build the request: {error}")))
    }

    async fn begin(
        &self,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.lost(&error))?;
        tokio::spawn(async move {
            // The call that used the connection reports its error.
            let _ = connection.await;
        });
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.lost(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let request_id = response
            .headers()
            .get("x-request-id")
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let status = response.status().as_u16();
        // The refusal counts even if the rest of the response doesn't arrive.
        let body = self.collect(response.into_body()).await.unwrap_or_default();
        Err(Failure::Refused(Box::new(Refusal {
            status,
            body: body.to_vec(),
            request_id,
            path: path.to_owned(),
            endpoint: None,
        })))
    }

    async fn connect(&self) -> Result<Pin<Box<dyn Stream>>, Failure> {
        match &self.place {
            Place::Socket(path) => match connect(path).await {
                Ok(stream) => Ok(Box::pin(stream)),
                Err(error) => {
                    let tried = [(path.clone(), reason(&error))];
                    Err(Failure::Unreachable(socket::unreachable(&tried)))
                }
            },
            Place::Remote(remote) => remote.connect().await,
        }
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Failure> {
        let whole = Limited::new(body, ANSWER_BYTES).collect().await;
        whole
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| {
                Failure::Unreachable(format!(
                    "the daemon's response is truncated or over {ANSWER_BYTES} bytes: {error}"
                ))
            })
    }

    /// Returns the failure of a connection that ended during a call.
    pub(crate) fn lost(&self, error: &hyper::Error) -> Failure {
        Failure::Unreachable(format!(
            "the connection to {} was interrupted ({error}): it is not known whether the daemon carried out the request. Check with `stormhook event list`, or retry",
            self.place
        ))
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Returns an empty body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a path with a query of those parameters that have a value.
pub(crate) fn path_with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake_daemon;
    use super::*;

    #[tokio::test]
    async fn a_refusal_carries_what_was_said_and_its_request_id() {
        let daemon = fake_daemon::daemon(|_| fake_daemon::said(404, r#"{"code":"not_found"}"#));
        let failure = daemon.session.client.get("/v1/events/evt_1").await;
        let Err(Failure::Refused(refusal)) = failure else {
            panic!("{failure:?}")
        };
        let expected = Refusal {
            status: 404,
            body: br#"{"code":"not_found"}"#.to_vec(),
            request_id: Some("req_7".into()),
            path: "/v1/events/evt_1".into(),
            endpoint: None,
        };
        assert_eq!(*refusal, expected);
    }

    #[test]
    fn a_query_carries_only_what_was_given_and_is_escaped() {
        assert_eq!(
            path_with_query("/v1/events", &[("type", None), ("since", None)]),
            "/v1/events"
        );
        assert_eq!(
            path_with_query(
                "/v1/events",
                &[
                    ("type", Some("a.b")),
                    ("since", None),
                    ("idempotencyKey", Some("a&b=c d"))
                ]
            ),
            "/v1/events?type=a.b&idempotencyKey=a%26b%3Dc+d"
        );
    }
}

//! Receives stormhook deliveries with hyper, verifies them, drops repeats and reports missing deliveries.
//!
//! ```sh
//! STORMHOOK_SECRET=whsec_… PORT=9001 cargo run -p stormhook-example-consumer-hyper
//! ```
//!
//! Three things matter, whatever the framework:
//!
//! - verify the **bytes as received**: collect the body, with a limit, and parse
//!   it afterwards, since parsing and serializing again changes them;
//! - answer within 15 seconds, and 2xx only once you have stored the event: anything else is
//!   sent again;
//! - drop repeats by `webhook-id`. A delivery may arrive more than once, with the same id. Here
//!   the ids are in memory. In a service, insert the id into a table with a unique key in the
//!   same transaction that does the work.
//!
//! An endpoint's events are numbered from 1. A gap may be a delivery that is still being retried; one that
//! stays is a delivery that ended undelivered. Store the tracker's text where you store the ids.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use stormhook_verifier::{Observed, SequenceTracker, StandardVerifier};

/// Events are at most 256 KiB unless the daemon is configured otherwise; the envelope adds some bytes.
const BODY_BYTES_MAX: usize = 512 * 1024;
const IDS_KEPT: usize = 100_000;

/// The part of an event that is read.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sequence: u64,
    /// The JSON as sent. Read it into your own type: not all valid JSON (`"\ud800"`, `1e400`, an object 128 deep) fits
    /// a `serde_json::Value`.
    #[serde(borrow)]
    data: &'a RawValue,
}

struct Consumer {
    verifier: StandardVerifier,
    seen: Mutex<Seen>,
}

/// The latest ids, oldest first, bounded, and the sequence numbers.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
    numbers: SequenceTracker,
}

impl Seen {
    /// Returns false if the id is known already.
    fn insert(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl Consumer {
    /// Handles a genuine event. Returns false if it is not JSON.
    fn take(&self, id: &str, body: &[u8]) -> bool {
        // Verified, so the body is stormhook's own JSON; validate `data` yourself.
        let Ok(event) = serde_json::from_slice::<Event<'_>>(body) else {
            return false;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.insert(id) {
            say(&format!("repeat {id}"));
            return true;
        }
        if let Observed::Gap { from, to } = seen.numbers.observe(event.sequence) {
            say(&format!("missing {from}-{to}"));
        }
        let data_bytes = event.data.get().len();
        say(&format!(
            "accepted {id} {} with {data_bytes} bytes of data",
            event.kind
        ));
        true
    }
}

async fn receive(consumer: &Consumer, request: Request<Incoming>) -> (StatusCode, &'static str) {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST || parts.uri.path() != "/hooks" {
        return (StatusCode::NOT_FOUND, "POST /hooks\n");
    }
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too large, or truncated\n");
    };
    let body = body.to_bytes();
    match consumer.verifier.verify(&parts.headers, &body) {
        Ok(verified) if consumer.take(verified.id, &body) => (StatusCode::NO_CONTENT, ""),
        Ok(_) => (StatusCode::BAD_REQUEST, "not JSON\n"),
        Err(error) => {
            say(&format!("refused {}", error.code()));
            (StatusCode::UNAUTHORIZED, "signature not accepted\n")
        }
    }
}

fn answer((status, text): (StatusCode, &'static str)) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

/// One line on stdout; a closed stdout must not refuse a delivery.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = std::env::var("STORMHOOK_SECRET")
        .map_err(|_| "set STORMHOOK_SECRET to the endpoint's secret (whsec_…)")?;
    let port: u16 = std::env::var("PORT")
        .unwrap_or_else(|_| "9001".to_owned())
        .parse()?;
    let consumer = Arc::new(Consumer {
        verifier: StandardVerifier::new(&secret)?,
        seen: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    say(&format!(
        "listening on http://{}/hooks",
        listener.local_addr()?
    ));
    loop {
        let (stream, _) = listener.accept().await?;
        let consumer = Arc::clone(&consumer);
        tokio::spawn(async move {
            let service = service_fn(|request| async {
                Ok::<_, Infallible>(answer(receive(&consumer, request).await))
            });
            // The sender retries if the connection fails.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

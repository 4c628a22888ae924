//! Receives stormhook deliveries with axum, verifies them and drops repeats.
//!
//! ```sh
//! STORMHOOK_SECRET=whsec_… PORT=9001 cargo run -p stormhook-example-consumer-axum
//! ```
//!
//! Three things matter, whatever the framework:
//!
//! - verify the **bytes as received**: take `Bytes`, never `Json<T>`, since parsing and serializing
//!   again changes them;
//! - answer within 15 seconds, and 2xx only once you have stored the event: anything else is
//!   sent again;
//! - drop repeats by `webhook-id`. A delivery may arrive more than once, with the same id. Here
//!   the ids are in memory. In a service, insert the id into a table with a unique key in the
//!   same transaction that does the work.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::post};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use stormhook_verifier::StandardVerifier;

/// Events are at most 256 KiB unless the daemon is configured otherwise; the envelope adds some bytes.
const BODY_BYTES_MAX: usize = 512 * 1024;
const IDS_KEPT: usize = 100_000;

/// The part of an event that is read.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    /// The JSON as sent. Read it into your own type: not all valid JSON (`"\ud800"`, `1e400`, an object 128 deep) fits
    /// a `serde_json::Value`.
    #[serde(borrow)]
    data: &'a RawValue,
}

struct Consumer {
    verifier: StandardVerifier,
    seen: Mutex<Seen>,
}

/// The latest ids, oldest first, bounded.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
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

async fn receive(
    State(consumer): State<Arc<Consumer>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let id = match consumer.verifier.verify(&headers, &body) {
        Ok(verified) => verified.id,
        Err(error) => {
            say(&format!("refused {}", error.code()));
            return (StatusCode::UNAUTHORIZED, "signature not accepted\n");
        }
    };
    // Verified, so the body is stormhook's own JSON; validate `data` yourself.
    let Ok(event) = serde_json::from_slice::<Event<'_>>(&body) else {
        return (StatusCode::BAD_REQUEST, "not JSON\n");
    };
    if !consumer
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(id)
    {
        say(&format!("repeat {id}"));
        return (StatusCode::OK, "seen before\n");
    }
    say(&format!(
        "accepted {id} {} with {} bytes of data",
        event.kind,
        event.data.get().len()
    ));
    (StatusCode::OK, "thank you\n")
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
    let consumer = Consumer {
        verifier: StandardVerifier::new(&secret)?,
        seen: Mutex::default(),
    };
    let app = Router::new()
        .route("/hooks", post(receive))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(consumer));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    say(&format!(
        "listening on http://{}/hooks",
        listener.local_addr()?
    ));
    axum::serve(listener, app).await?;
    Ok(())
}

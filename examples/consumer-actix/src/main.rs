//! Receives stormhook deliveries with actix-web, verifies them, drops repeats and reports missing deliveries.
//!
//! ```sh
//! STORMHOOK_SECRET=whsec_… PORT=9001 cargo run -p stormhook-example-consumer-actix
//! ```
//!
//! Three things matter, whatever the framework:
//!
//! - verify the **bytes as received**: take `web::Bytes`, never `web::Json<T>`,
//!   since parsing and serializing again changes them;
//! - answer within 15 seconds, and 2xx only once you have stored the event: anything else is
//!   sent again;
//! - drop repeats by `webhook-id`. A delivery may arrive more than once, with the same id. Here
//!   the ids are in memory. In a service, insert the id into a table with a unique key in the
//!   same transaction that does the work.
//!
//! An endpoint's events are numbered from 1. A gap may be a delivery that is still being retried; one that
//! stays is a delivery that ended undelivered. Store the tracker's text where you store the ids.

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
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

async fn receive(
    consumer: web::Data<Consumer>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    // actix-web has its own header map: pass the pairs.
    let pairs = request.headers().iter();
    let headers: Vec<(&str, &[u8])> = pairs
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    match consumer.verifier.verify(&headers, &body) {
        Ok(verified) if consumer.take(verified.id, &body) => HttpResponse::NoContent().finish(),
        Ok(_) => HttpResponse::BadRequest().body("not JSON\n"),
        Err(error) => {
            say(&format!("refused {}", error.code()));
            HttpResponse::Unauthorized().body("signature not accepted\n")
        }
    }
}

/// One line on stdout; a closed stdout must not refuse a delivery.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn main() -> Result<(), Box<dyn Error>> {
    actix_web::rt::System::new().block_on(serve())
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let secret = std::env::var("STORMHOOK_SECRET")
        .map_err(|_| "set STORMHOOK_SECRET to the endpoint's secret (whsec_…)")?;
    let port: u16 = std::env::var("PORT")
        .unwrap_or_else(|_| "9001".to_owned())
        .parse()?;
    let consumer = web::Data::new(Consumer {
        verifier: StandardVerifier::new(&secret)?,
        seen: Mutex::default(),
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(consumer.clone())
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .route("/hooks", web::post().to(receive))
    })
    .workers(1)
    .bind(("127.0.0.1", port))?;
    for address in server.addrs() {
        say(&format!("listening on http://{address}/hooks"));
    }
    server.run().await?;
    Ok(())
}

//! The receiving process: a bare hyper server that counts. The path selects its behaviour and its ledger:
//! `/<behaviour>/<ledger>/<endpoint>`. Commands arrive line by line on stdin (`count N`, `report N`, `bare`),
//! answers go to stdout, and it ends with stdin.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use stormhook_benches::bodies;
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Doing, Result};
use crate::ledger::{Ledger, event_value};
use crate::signature::Check;
use crate::{clock, signature};

/// The signatures of one delivery in this many are recomputed.
const VERIFY_EVERY: u64 = 64;

/// The state of the server.
struct Sink {
    bare: AtomicU64,
    ledgers: Mutex<HashMap<u32, Ledger>>,
    check: Check,
}

/// How the sink answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// Counts and answers 200, for the ceiling.
    Bare,
    /// Records the delivery in the ledger and answers 200.
    Accept,
    /// The same, and reads the producer's start time from the body.
    Timed,
    /// The same as `Accept`, after some milliseconds.
    Slow(u64),
    /// Records the delivery in the ledger and answers 503.
    Refuse,
    /// Records the delivery in the ledger and never answers.
    Hang,
}

/// The parts of a request's path.
struct Route {
    behaviour: Behaviour,
    ledger: u32,
    endpoint: u32,
}

fn route(path: &str) -> Option<Route> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let behaviour = match parts.next()? {
        "bare" => Behaviour::Bare,
        "ok" => Behaviour::Accept,
        "timed" => Behaviour::Timed,
        "503" => Behaviour::Refuse,
        "hang" => Behaviour::Hang,
        other => Behaviour::Slow(other.strip_prefix("slow")?.parse().ok()?),
    };
    let ledger = parts.next()?.parse().ok()?;
    let endpoint = parts.next()?.parse().ok()?;
    Some(Route {
        behaviour,
        ledger,
        endpoint,
    })
}

impl Sink {
    async fn answer(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let received_ns = clock::monotonic_ns();
        let Some(route) = route(request.uri().path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        if route.behaviour == Behaviour::Bare {
            drain(request.into_body()).await;
            self.bare.fetch_add(1, Ordering::Relaxed);
            return status(StatusCode::OK);
        }
        let (head, body) = request.into_parts();
        let verify = self.enter(&route, &head.headers);
        if verify || route.behaviour == Behaviour::Timed {
            let body = body
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            self.look_at(&route, &head.headers, &body, received_ns, verify);
        } else {
            drain(body).await;
        }
        match route.behaviour {
            Behaviour::Refuse => status(StatusCode::SERVICE_UNAVAILABLE),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Slow(delay_ms) => {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                status(StatusCode::OK)
            }
            Behaviour::Bare | Behaviour::Accept | Behaviour::Timed => status(StatusCode::OK),
        }
    }

    /// Records the delivery. Returns whether it belongs to the sample.
    fn enter(&self, route: &Route, headers: &HeaderMap) -> bool {
        self.with(route.ledger, |ledger| {
            let id = headers.get("webhook-id").map(|value| value.as_bytes());
            match (id.and_then(event_value), signature::missing_header(headers)) {
                (_, Some(name)) => ledger.enter_bad(format!("a delivery without {name}")),
                (None, _) => ledger.enter_bad(format!("an invalid webhook-id: {id:?}")),
                (Some(event), None) => ledger.enter(event, route.endpoint),
            }
            ledger.received() % VERIFY_EVERY == 1
        })
        .unwrap_or(false)
    }

    /// Reads what only the body has.
    fn look_at(&self, route: &Route, headers: &HeaderMap, body: &[u8], at_ns: u64, verify: bool) {
        let verdict = verify.then(|| self.check.verify(headers, body, clock::unix_s()));
        let sent_ns = bodies::stamp_of(body);
        self.with(route.ledger, |ledger| {
            match verdict {
                Some(Ok(())) => ledger.enter_verified(),
                Some(Err(why)) => ledger.enter_bad(why),
                None => {}
            }
            if route.behaviour == Behaviour::Timed {
                match sent_ns {
                    Some(sent_ns) => ledger.enter_latency(at_ns.saturating_sub(sent_ns) / 1_000),
                    None => ledger.enter_bad("a body without the producer's time".to_owned()),
                }
            }
        });
    }

    fn with<T>(&self, number: u32, act: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledgers.get_mut(&number) {
            return Some(act(ledger));
        }
        let ledger = ledgers.entry(number).or_insert(Ledger::new().ok()?);
        Some(act(ledger))
    }

    /// Returns the answer to one line from the benchmark.
    fn command(&self, line: &str) -> serde_json::Value {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or("");
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match verb {
            "bare" => json!({"received": self.bare.load(Ordering::Relaxed)}),
            "count" => json!({"received": self.with(number, |l| l.received()).unwrap_or(0)}),
            "report" => self.with(number, |l| l.report()).unwrap_or_default(),
            _ => json!({"error": format!("expected bare, count N or report N, got {line:?}")}),
        }
    }
}

async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn status(code: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = code;
    response
}

async fn serve(sink: Arc<Sink>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of file descriptors: connections that end free some.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(connection(Arc::clone(&sink), stream));
    }
}

async fn connection(sink: Arc<Sink>, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let sink = Arc::clone(&sink);
        async move { Ok::<_, Infallible>(sink.answer(request).await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

/// Runs the sink until stdin ends. Its first line on stdout is its address.
pub(crate) fn run(secret: &str, threads: usize) -> Result<()> {
    let check = Check::new(secret)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .doing("starting the sink's runtime")?;
    let sink = Arc::new(Sink {
        bare: AtomicU64::new(0),
        ledgers: Mutex::new(HashMap::new()),
        check,
    });
    let listener = runtime
        .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .doing("binding the sink's port")?;
    let address = listener.local_addr().doing("reading the sink's address")?;
    println!("{address}");
    runtime.spawn(serve(Arc::clone(&sink), listener));
    for line in std::io::stdin().lock().lines() {
        let answer = sink.command(&line.doing("reading a command")?);
        println!("{answer}");
        std::io::stdout().flush().doing("answering a command")?;
    }
    runtime.shutdown_background();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_behaviour_ledger_and_endpoint() {
        let slow = route("/slow50/7/9").unwrap();
        assert!(slow.behaviour == Behaviour::Slow(50) && slow.ledger == 7 && slow.endpoint == 9);
        assert!(route("/503/1/2").unwrap().behaviour == Behaviour::Refuse);
        assert!(route("/nothing/1/2").is_none());
        assert!(route("/ok/1").is_none());
    }
}

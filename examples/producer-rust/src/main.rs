//! Accepts an order and sends stormhook an event for it once the order is committed.
//!
//! ```sh
//! cargo run -p stormhook-example-producer-rust -- ORDERS_FOLDER ORDER_ID AMOUNT
//! ```
//!
//! The transaction here is a file: written under another name, flushed, then renamed, which either
//! happens or doesn't. Put your database's COMMIT there. The order of the steps is what matters:
//!
//! 1. commit the order. If this fails, no event may be sent;
//! 2. send the event with an idempotency key derived from the order;
//! 3. record that it was sent.
//!
//! A crash between 1 and 3 leaves an order without its mark; the next run sends its event again.
//! The key makes that harmless: stormhook answers 200 instead of 202 and delivers nothing twice.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn commit_order(orders: &Path, id: &str, amount: u64) -> Result<()> {
    fs::create_dir_all(orders)?;
    let aside = orders.join(format!("{id}.new"));
    let mut file = File::create(&aside)?;
    write!(file, r#"{{"orderId":"{id}","amount":{amount}}}"#)?;
    file.sync_all()?;
    fs::rename(&aside, orders.join(format!("{id}.json")))?;
    File::open(orders)?.sync_all()?;
    Ok(())
}

/// One POST over the daemon's socket. A service keeps the connection for the next one.
async fn post(socket: &Path, event: &str) -> Result<(StatusCode, String)> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post("/v1/events")
        .header("host", "stormhook")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(event.to_owned())))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Sends an event until it is known to be stored: 202 means new, 200 means stored earlier.
async fn send(socket: &Path, event: &str) -> Result<String> {
    let mut last = String::new();
    for tries in 1..=5 {
        match tokio::time::timeout(Duration::from_secs(10), post(socket, event)).await {
            Ok(Ok((StatusCode::ACCEPTED | StatusCode::OK, answer))) => return Ok(answer),
            Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, answer))) => last = answer,
            Ok(Ok((status, answer))) => return Err(format!("{status}: {answer}").into()),
            // The daemon is restarting.
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => "no answer within 10 s".clone_into(&mut last),
        }
        tokio::time::sleep(Duration::from_secs(tries)).await;
    }
    Err(format!("stormhook does not accept events now; run again later: {last}").into())
}

fn is_order_id(id: &str) -> bool {
    !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [orders, id, amount] = arguments.as_slice() else {
        return Err("usage: producer ORDERS_FOLDER ORDER_ID AMOUNT".into());
    };
    if !is_order_id(id) {
        return Err("an order id is letters, digits and hyphens".into());
    }
    let orders = Path::new(orders);
    let socket = std::env::var("STORMHOOK_SOCKET")
        .unwrap_or_else(|_| "/run/stormhook/stormhook.sock".to_owned());
    commit_order(orders, id, amount.parse()?)?;
    for entry in fs::read_dir(orders)? {
        let path = entry?.path();
        let mark = path.with_extension("sent");
        let id = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let (Some(id), Some("json")) = (id, path.extension().and_then(|it| it.to_str())) else {
            continue;
        };
        if mark.exists() {
            continue;
        }
        let data = fs::read_to_string(&path)?;
        let event = format!(
            r#"{{"organizationId":"shop","type":"order.created","idempotencyKey":"order-{id}-created","data":{data}}}"#
        );
        let answer = send(Path::new(&socket), &event).await?;
        writeln!(std::io::stdout(), "{answer}")?;
        File::create(mark)?;
    }
    Ok(())
}

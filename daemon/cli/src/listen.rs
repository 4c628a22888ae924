//! `stormhook listen`: a receiver for development on loopback. Verifies each delivery, prints it, and answers as
//! configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use stormhook_verifier::Tolerance;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::input;
use crate::local;
use crate::receiver::{self, Received};
use crate::respond::{self, Respond};
use crate::signature::{Checker, Demand, Verdict, all_good};
use crate::table::clip;
use crate::terminal::{Screen, Tone, plain};
use crate::verify;

/// How many deliveries wait to be printed while the terminal is slow; further ones are answered late.
const LINES_AHEAD: usize = 256;
/// After the last delivery of `--count` is printed, its response is still being sent.
const ANSWER_WRITTEN_WITHIN: Duration = Duration::from_millis(200);
/// How much of a body is printed.
const BODY_CHARS: usize = 2_000;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook listen --secret-file secret.txt
  stormhook listen --port 9000 --respond 503,503,200
  stormhook listen --respond 200,hang,reset,drip,redirect,slow:2s,retry-after:30

The daemon refuses plain http and private addresses unless its configuration
allows them for development:
  [target]
  allow = [\"127.0.0.0/8\"]
  allow_http = true";

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// The port on 127.0.0.1; 0 picks one
    #[arg(long, default_value_t = 8651)]
    port: u16,
    /// The endpoint's secret or public key, from a file or - for stdin; without it nothing is verified
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Answers to give in turn: a status (200, 503), gone (410), redirect, slow:2s, retry-after:30, hang, reset, drip, garbage
    #[arg(long, value_name = "ANSWER,…", value_delimiter = ',', default_value = "200", value_parser = respond::respond)]
    respond: Vec<Respond>,
    /// The name of the StormCom signature header [default: x-stormcom-signature]
    #[arg(long, value_name = "NAME")]
    signature_header: Option<String>,
    /// Exit after this many deliveries
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(crate) async fn run(args: ListenArgs, screen: Screen) -> Result<(), Failure> {
    let header = args.signature_header.as_deref();
    let checker = match &args.secret_file {
        Some(file) => {
            let secret = input::secret_in(file)?;
            Some(Checker::of_usable(&secret, Tolerance::default(), header)?)
        }
        None => None,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::local(&format!("listen on {address}; try another --port"), &error)
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::local("get the listening address", &error))?;
    announce(address, checker.is_some(), &screen)?;

    let slowest = args.respond.iter().map(|respond| match respond {
        Respond::Slow(time) => *time,
        _ => Duration::ZERO,
    });
    let last_answer = ANSWER_WRITTEN_WITHIN + slowest.max().unwrap_or_default();
    let (sender, mut printed) = mpsc::channel::<String>(LINES_AHEAD);
    let (checker, rotation, requests) = (
        Arc::new(checker),
        Arc::<[Respond]>::from(args.respond),
        Arc::new(AtomicU64::new(0)),
    );
    let receiver = tokio::spawn(receiver::receive(listener, move |received| {
        let turn = respond::turn(&rotation, requests.fetch_add(1, Ordering::Relaxed));
        let verdicts = checker.as_ref().as_ref().map(|checker| {
            checker.check(
                &received.headers,
                &received.body,
                verify::now_s(),
                Demand::Complete,
            )
        });
        let text = if screen.json {
            as_json(&received, verdicts.as_deref(), turn)
        } else {
            in_words(&received, verdicts.as_deref(), turn, &screen)
        };
        // A delivery that can't be queued for printing is answered 503: what isn't printed must not count as received.
        if sender.try_send(text).is_ok() {
            turn
        } else {
            Respond::Status(503)
        }
    }));
    let mut shown = 0_u64;
    let end = loop {
        tokio::select! {
            line = printed.recv() => match line {
                Some(line) => screen.line(&line)?,
                None => break Ok(()),
            },
            interrupted = tokio::signal::ctrl_c() => break interrupted.map_err(|error| Failure::local("wait for Ctrl-C", &error)),
        }
        shown += 1;
        if args.count.is_some_and(|count| shown >= count) {
            // The last response is still being written: give it time.
            tokio::time::sleep(last_answer).await;
            break Ok(());
        }
    };
    receiver.abort();
    end
}

fn announce(address: SocketAddr, verifies: bool, screen: &Screen) -> Result<(), Failure> {
    let verifying = if verifies {
        "verifying signatures"
    } else {
        "no secret: nothing is verified"
    };
    let text = format!("Listening on http://{address}/ ({verifying}). Press Ctrl-C to stop.");
    if screen.json {
        screen.remark(&text);
        return Ok(());
    }
    screen.line(&text)
}

fn as_json(received: &Received, verdicts: Option<&[Verdict]>, turn: Respond) -> String {
    let mut headers = serde_json::Map::new();
    for (name, value) in &received.headers {
        let value = String::from_utf8_lossy(value);
        let joined = match headers.get(name).and_then(Value::as_str) {
            Some(earlier) => format!("{earlier}, {value}"),
            None => value.into_owned(),
        };
        headers.insert(name.clone(), Value::String(joined));
    }
    let mut line = json!({
        "receivedAt": now_text(),
        "method": received.method.as_str(),
        "path": received.path,
        "headers": headers,
        "body": String::from_utf8_lossy(&received.body),
        "valid": verdicts.map(all_good),
        "answered": turn.name(),
    });
    if let (Value::Object(line), Some(verdicts)) = (&mut line, verdicts)
        && let Some(signatures) = verify::as_json(verdicts).get("signatures")
    {
        line.insert("signatures".to_owned(), signatures.clone());
    }
    line.to_string()
}

fn now_text() -> String {
    OffsetDateTime::from(local::wall_clock())
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn in_words(
    received: &Received,
    verdicts: Option<&[Verdict]>,
    turn: Respond,
    screen: &Screen,
) -> String {
    let header = |name: &str| received.header(name).map_or_else(|| "-".to_owned(), plain);
    let mut out = format!(
        "{} {}  {}  {}  attempt {}  sequence {}",
        screen.paint(Tone::Dim, &now_text()),
        screen.paint(Tone::Bold, &header("x-stormcom-event")),
        header("webhook-id"),
        plain(&received.path),
        header("x-stormcom-attempt"),
        header("x-stormcom-sequence"),
    );
    for verdict in verdicts.into_iter().flatten() {
        out.push_str(&format!("\n  {}", verify::in_words(verdict, screen)));
    }
    let body = clip(&plain(&String::from_utf8_lossy(&received.body)), BODY_CHARS);
    out.push_str(&format!(
        "\n  {body}\n  {} {}",
        screen.paint(Tone::Dim, "answered"),
        turn.name()
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::super::signature::tests::{NOW_S, SECRET, signed};
    use super::*;

    fn received(body: &'static [u8]) -> Received {
        let mut headers = signed(SECRET, body, NOW_S);
        headers.push(("x-stormcom-event".into(), b"order.created".to_vec()));
        Received {
            method: http::Method::POST,
            path: "/hooks".into(),
            headers,
            body: body.into(),
        }
    }

    fn verdicts(received: &Received) -> Vec<Verdict> {
        Checker::new(SECRET, Tolerance::default(), None).check(
            &received.headers,
            &received.body,
            NOW_S,
            Demand::Complete,
        )
    }

    #[test]
    fn a_delivery_is_one_json_line_whatever_its_body() {
        let received = received(b"{\n\"a\":1}");
        let line = as_json(&received, Some(&verdicts(&received)), Respond::Status(503));
        assert_eq!(line.lines().count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["valid"], &value["answered"], &value["body"]),
            (&json!(true), &json!("503"), &json!("{\n\"a\":1}"))
        );
        assert_eq!(value["signatures"][1]["header"], "webhook-signature");
    }

    #[test]
    fn without_a_secret_nothing_is_called_valid() {
        let line = as_json(&received(b"{}"), None, Respond::Status(200));
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap()["valid"],
            Value::Null
        );
    }

    #[test]
    fn a_delivery_is_readable_and_cannot_drive_the_terminal() {
        let received = received(b"{\"x\":\"\x1b[2J\"}");
        let text = in_words(
            &received,
            Some(&verdicts(&received)),
            Respond::Hang,
            &Screen::piped(),
        );
        assert!(
            text.contains("order.created")
                && text.contains("valid   webhook-signature")
                && text.ends_with("answered hang"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

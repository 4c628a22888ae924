//! `stormhook endpoint …`: the endpoints that deliveries go to.
//!
//! Secrets and custom headers (which are secrets too) come from files or stdin. A secret is shown only when it is
//! created and when `--reveal-secret` asks for it.

mod arguments;
mod describe;
mod settings;
mod tls;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Session;
use crate::failure::Failure;
use crate::input;
use crate::local;
use crate::pages;
use crate::table::{Cell, counted};
use crate::terminal::{paint, plain};
use arguments::{
    AddArgs, ListArgs, OneArgs, RecoverArgs, RotateArgs, SecretArgs, ShowArgs, UpdateArgs,
};
pub(crate) use arguments::{EXAMPLES, EndpointCommand};
use describe::{describe, public_keys, secrets, state};

pub(crate) async fn run(command: EndpointCommand, session: Session) -> Result<(), Failure> {
    match command {
        EndpointCommand::Add(args) => add(&args, &session).await,
        EndpointCommand::List(args) => list(&args, &session).await,
        EndpointCommand::Show(args) => show(&args, &session).await,
        EndpointCommand::Update(args) => change(&args.one.id, update_body(&args)?, &session).await,
        EndpointCommand::Enable(args) => {
            let mut body = members(json!({"active": true}));
            if args.discard_held {
                body.insert("discardHeld".to_owned(), json!(true));
            }
            change(&args.one.id, body, &session).await
        }
        EndpointCommand::Disable(args) => {
            change(&args.id, members(json!({"active": false})), &session).await
        }
        EndpointCommand::RotateSecret(args) => rotate(&args, &session).await,
        EndpointCommand::Test(args) => test(&args, &session).await,
        EndpointCommand::Recover(args) => recover(&args, &session).await,
        EndpointCommand::Remove(args) => remove(&args, &session).await,
    }
}

/// Returns the members of a body that starts with these.
fn members(begun: Value) -> Map<String, Value> {
    match begun {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn put_secret(body: &mut Map<String, Value>, args: &SecretArgs) -> Result<(), Failure> {
    if let Some(file) = &args.secret_file {
        body.insert("secret".to_owned(), json!(input::secret_in(file)?));
    }
    Ok(())
}

async fn add(args: &AddArgs, session: &Session) -> Result<(), Failure> {
    let mut body = members(
        json!({"organizationId": args.organization, "url": args.url, "eventTypes": args.event_types}),
    );
    if args.inactive {
        body.insert("active".to_owned(), json!(false));
    }
    if args.ed25519 {
        body.insert("ed25519".to_owned(), json!(true));
    }
    args.settings.put(&mut body)?;
    args.tls.put(&mut body)?;
    put_secret(&mut body, &args.secret)?;
    let answer = session
        .client
        .send(Method::POST, "/v1/endpoints", &body.into())
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let endpoint = answer.value()?;
    session
        .screen
        .line(&describe(&endpoint, session.screen.colour))?;
    session.screen.line("")?;
    session
        .screen
        .line(&secrets(&endpoint, session.screen.colour))?;
    session
        .screen
        .line("Save the secret now: `endpoint show` doesn't show it again without --reveal-secret.")
}

fn update_body(args: &UpdateArgs) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    args.settings.clear(&args.clear, &mut body)?;
    if args.clear.iter().any(|name| name == tls::TLS) {
        body.insert(tls::TLS.to_owned(), Value::Null);
    }
    args.tls.put(&mut body)?;
    if let Some(url) = &args.url {
        body.insert("url".to_owned(), json!(url));
    }
    if !args.event_types.is_empty() {
        body.insert("eventTypes".to_owned(), json!(args.event_types));
    }
    args.settings.put(&mut body)?;
    if let Some(on) = args.ed25519 {
        body.insert("ed25519".to_owned(), json!(on));
    }
    if body.is_empty() {
        return Err(Failure::Usage(
            "nothing to change: name a setting, see `stormhook endpoint update --help`".to_owned(),
        ));
    }
    Ok(body)
}

async fn change(id: &str, body: Map<String, Value>, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .send(Method::PATCH, &format!("/v1/endpoints/{id}"), &body.into())
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session
        .screen
        .line(&describe(&answer.value()?, session.screen.colour))
}

async fn list(args: &ListArgs, session: &Session) -> Result<(), Failure> {
    let active = args.active.map(|active| active.to_string());
    let filters = [
        ("organizationId", args.organization.as_deref()),
        ("active", active.as_deref()),
    ];
    let heads = [
        "ENDPOINT",
        "ORGANIZATION",
        "STATE",
        "FAILURES",
        "EVENT TYPES",
        "URL",
    ];
    pages::list(
        session,
        "/v1/endpoints",
        &filters,
        &args.paging,
        &heads,
        |endpoint| {
            vec![
                Cell::of(endpoint, "id"),
                Cell::of(endpoint, "organizationId"),
                state(endpoint),
                Cell::of(endpoint, "failureCount"),
                Cell::of(endpoint, "eventTypes"),
                Cell::of(endpoint, "url"),
            ]
        },
    )
    .await
}

async fn show(args: &ShowArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.one.id;
    let path = if args.reveal_secret {
        format!("/v1/endpoints/{id}/secret")
    } else {
        format!("/v1/endpoints/{id}")
    };
    let answer = session.client.get(&path).await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let value = answer.value()?;
    if args.reveal_secret {
        return session.screen.line(&secrets(&value, session.screen.colour));
    }
    session
        .screen
        .line(&describe(&value, session.screen.colour))?;
    if value.get("ed25519").and_then(Value::as_bool) != Some(true) {
        return Ok(());
    }
    // Public keys are not secret, but the API shows them only together with their secrets.
    let answer = session
        .client
        .get(&format!("/v1/endpoints/{id}/secret"))
        .await?;
    session.screen.line("")?;
    session
        .screen
        .line(&public_keys(&answer.value()?, session.screen.colour))
}

async fn rotate(args: &RotateArgs, session: &Session) -> Result<(), Failure> {
    let mut body = Map::new();
    if let Some(overlap) = &args.overlap {
        body.insert("overlap".to_owned(), json!(overlap));
    }
    put_secret(&mut body, &args.secret)?;
    let answer = session
        .client
        .send(
            Method::POST,
            &format!("/v1/endpoints/{}/rotate-secret", args.one.id),
            &body.into(),
        )
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session
        .screen
        .line(&secrets(&answer.value()?, session.screen.colour))
}

async fn test(args: &OneArgs, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .post(&format!("/v1/endpoints/{}/test", args.id))
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session
        .screen
        .line(&ping_in_words(&answer.value()?, session.screen.colour))
}

/// Describes the result of a ping, and why it failed if it did.
fn ping_in_words(attempt: &Value, colour: bool) -> String {
    let (tone, words) = crate::delivery::attempt_in_words(attempt);
    let arrived = attempt.get("outcome").and_then(Value::as_str) == Some("success");
    let verdict = if arrived { "arrived" } else { "failed" };
    format!(
        "The ping {}: {}",
        paint(colour, tone, verdict),
        plain(&words)
    )
}

async fn recover(args: &RecoverArgs, session: &Session) -> Result<(), Failure> {
    let (since, until) = input::span(
        args.since.as_ref(),
        args.until.as_ref(),
        local::wall_clock(),
    )?;
    let mut body = members(json!({"missed": args.missed, "dryRun": args.dry_run}));
    for (key, value) in [("since", since), ("until", until)] {
        if let Some(value) = value {
            body.insert(key.to_owned(), json!(value));
        }
    }
    let answer = session
        .client
        .send(
            Method::POST,
            &format!("/v1/endpoints/{}/recover", args.one.id),
            &body.into(),
        )
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let Recovered { recovered } = answer.read()?;
    session
        .screen
        .line(&recovery_in_words(recovered, args.dry_run))
}

#[derive(Deserialize)]
struct Recovered {
    recovered: u64,
}

fn recovery_in_words(recovered: u64, dry_run: bool) -> String {
    let deliveries = counted(recovered, "delivery", "deliveries");
    let verb = match (dry_run, recovered) {
        (true, _) => "would be sent again",
        (false, 1) => "is sent again",
        (false, _) => "are sent again",
    };
    format!("{deliveries} {verb}")
}

async fn remove(args: &OneArgs, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .call(
            Method::DELETE,
            &format!("/v1/endpoints/{}", args.id),
            None,
            crate::client::CALL_TIMEOUT,
        )
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session.screen.line(&format!("Removed {}", args.id))
}

#[cfg(test)]
mod tests {
    use super::super::fake_daemon;
    use super::*;

    #[tokio::test]
    async fn a_ping_that_failed_is_still_an_answer() {
        let daemon = fake_daemon::daemon(|_| {
            fake_daemon::said(
                200,
                r#"{"outcome":"connect","durationMs":1,"error":"refused"}"#,
            )
        });
        let args = OneArgs {
            id: "ep_1".to_owned(),
        };
        test(&args, &daemon.session).await.unwrap();
    }

    #[test]
    fn what_is_recovered_is_counted_in_the_right_number() {
        assert_eq!(recovery_in_words(1, false), "1 delivery is sent again");
        assert_eq!(recovery_in_words(0, false), "0 deliveries are sent again");
        assert_eq!(
            recovery_in_words(2, true),
            "2 deliveries would be sent again"
        );
    }

    #[test]
    fn a_ping_that_failed_says_so_and_why() {
        let attempt = json!({"attempt":1,"round":1,"trigger":"manual","startedAt":"s","durationMs":3,
            "outcome":"http_status","responseCode":503,"responseExcerpt":"busy\u{7}","error":null});
        assert_eq!(
            ping_in_words(&attempt, false),
            "The ping failed: http_status 503 in 3 ms: busy\\u{7}"
        );
        let attempt = json!({"outcome":"success","responseCode":204,"durationMs":3});
        assert_eq!(
            ping_in_words(&attempt, false),
            "The ping arrived: success 204 in 3 ms"
        );
    }
}

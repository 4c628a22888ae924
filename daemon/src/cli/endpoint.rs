//! `stormhook endpoint …`: where deliveries go.
//!
//! Secrets and custom headers (which are secrets too) come from files or stdin. A secret is shown when it is
//! made and when it is asked for by name, never otherwise.

mod arguments;
mod describe;

use std::path::Path;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Session;
use super::daemon_side;
use super::failure::Failure;
use super::input;
use super::pages;
use super::screen::{paint, plain};
use super::table::{Cell, counted};
use arguments::{
    AddArgs, Clearable, ListArgs, OneArgs, Ordering, RecoverArgs, RotateArgs, SecretArgs, Settings,
    ShowArgs, UpdateArgs,
};
pub(crate) use arguments::{EXAMPLES, EndpointCommand};
use describe::{describe, public_keys, secrets, state};

/// 50 headers of 4 KiB each (the API's limit), with room for names.
const HEADERS_FILE_BYTES: u64 = 256 * 1024;

pub(crate) async fn run(command: EndpointCommand, session: Session) -> Result<(), Failure> {
    match command {
        EndpointCommand::Add(args) => add(&args, &session).await,
        EndpointCommand::List(args) => list(&args, &session).await,
        EndpointCommand::Show(args) => show(&args, &session).await,
        EndpointCommand::Update(args) => change(&args.one.id, &update_body(&args)?, &session).await,
        EndpointCommand::Enable(args) => {
            let mut body = json!({"active": true});
            if args.discard_held {
                insert(&mut body, "discardHeld", json!(true));
            }
            change(&args.one.id, &body, &session).await
        }
        EndpointCommand::Disable(args) => {
            change(&args.id, &json!({"active": false}), &session).await
        }
        EndpointCommand::RotateSecret(args) => rotate(&args, &session).await,
        EndpointCommand::Test(args) => test(&args, &session).await,
        EndpointCommand::Recover(args) => recover(&args, &session).await,
        EndpointCommand::Remove(args) => remove(&args, &session).await,
    }
}

fn insert(body: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = body {
        map.insert(key.to_owned(), value);
    }
}

fn put_settings(body: &mut Value, settings: &Settings) -> Result<(), Failure> {
    if let Some(description) = &settings.description {
        insert(body, "description", json!(description));
    }
    if let Some(file) = &settings.headers_file {
        insert(body, "headers", Value::Object(headers_of(file)?));
    }
    if let Some(rate) = &settings.rate_limit {
        insert(body, "rateLimitPerSecond", Value::Number(rate.clone()));
    }
    if let Some(ordering) = settings.ordering {
        let name = match ordering {
            Ordering::Parallel => "parallel",
            Ordering::Fifo => "fifo",
        };
        insert(body, "ordering", json!(name));
    }
    Ok(())
}

fn headers_of(file: &Path) -> Result<Map<String, Value>, Failure> {
    let bytes = input::read_bounded(file, HEADERS_FILE_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Usage(format!("{} is not text", file.display())))?;
    let mut headers = Map::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        // The line itself is not shown: it may hold a secret.
        let (name, value) = input::header(line).map_err(|_| {
            Failure::Usage(format!(
                "{} line {}: a header is written 'name: value'",
                file.display(),
                number + 1
            ))
        })?;
        if headers
            .insert(name.to_ascii_lowercase(), Value::String(value))
            .is_some()
        {
            return Err(Failure::Usage(format!(
                "{} line {}: this header is given twice",
                file.display(),
                number + 1
            )));
        }
    }
    Ok(headers)
}

fn put_secret(body: &mut Value, args: &SecretArgs) -> Result<(), Failure> {
    if let Some(file) = &args.secret_file {
        insert(body, "secret", json!(input::secret_in(file)?));
    }
    Ok(())
}

async fn add(args: &AddArgs, session: &Session) -> Result<(), Failure> {
    let mut body = json!({"organizationId": args.organization, "url": args.url, "eventTypes": args.event_types});
    if args.inactive {
        insert(&mut body, "active", json!(false));
    }
    if args.ed25519 {
        insert(&mut body, "ed25519", json!(true));
    }
    put_settings(&mut body, &args.settings)?;
    put_secret(&mut body, &args.secret)?;
    let answer = session
        .client
        .send(Method::POST, "/v1/endpoints", &body)
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

fn update_body(args: &UpdateArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    for setting in &args.clear {
        let (key, also_set) = match setting {
            Clearable::Description => ("description", args.settings.description.is_some()),
            Clearable::Headers => ("headers", args.settings.headers_file.is_some()),
            Clearable::RateLimit => ("rateLimitPerSecond", args.settings.rate_limit.is_some()),
        };
        if also_set {
            return Err(Failure::Usage(format!(
                "{key} is both set and cleared: leave one out"
            )));
        }
        insert(&mut body, key, Value::Null);
    }
    if let Some(url) = &args.url {
        insert(&mut body, "url", json!(url));
    }
    if !args.event_types.is_empty() {
        insert(&mut body, "eventTypes", json!(args.event_types));
    }
    put_settings(&mut body, &args.settings)?;
    if let Some(on) = args.ed25519 {
        insert(&mut body, "ed25519", json!(on));
    }
    if body.as_object().is_some_and(Map::is_empty) {
        return Err(Failure::Usage(
            "nothing to change: name a setting, see `stormhook endpoint update --help`".to_owned(),
        ));
    }
    Ok(body)
}

async fn change(id: &str, body: &Value, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .send(Method::PATCH, &format!("/v1/endpoints/{id}"), body)
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
    // Public keys are no secret, but what they belong to is: the API shows both in one place.
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
    let mut body = json!({});
    if let Some(overlap) = &args.overlap {
        insert(&mut body, "overlap", json!(overlap));
    }
    put_secret(&mut body, &args.secret)?;
    let answer = session
        .client
        .send(
            Method::POST,
            &format!("/v1/endpoints/{}/rotate-secret", args.one.id),
            &body,
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

/// How a ping went, and why it failed if it did.
fn ping_in_words(attempt: &Value, colour: bool) -> String {
    let (tone, words) = super::delivery::attempt_in_words(attempt);
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
        daemon_side::wall_clock(),
    )?;
    let mut body = json!({"missed": args.missed, "dryRun": args.dry_run});
    for (key, value) in [("since", since), ("until", until)] {
        if let Some(value) = value {
            insert(&mut body, key, json!(value));
        }
    }
    let answer = session
        .client
        .send(
            Method::POST,
            &format!("/v1/endpoints/{}/recover", args.one.id),
            &body,
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
            super::client::CALL_TIMEOUT,
        )
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session.screen.line(&format!("removed {}", args.id))
}

#[cfg(test)]
mod tests {
    use super::super::pretend;
    use super::*;

    #[tokio::test]
    async fn a_ping_that_failed_is_still_an_answer() {
        let daemon = pretend::daemon(|_| {
            pretend::said(
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

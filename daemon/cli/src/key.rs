//! `stormhook key …`: API keys.

use crate::Session;
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local;
use crate::pages::{self, Paging};
use crate::table::{Cell, pairs};
use crate::terminal::Tone;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook key add --name orders --scope ingest
  stormhook key add --name acme-console --organization org_42 \\
    --scope read --scope write --expires-in 90d
  stormhook key list
  stormhook key revoke key_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create an API key and print it: the only time that it is shown
    #[command(after_help = "\
Example:
  stormhook key add --name orders --scope ingest

Without --organization the key is for all organizations. Only then it may have
the scope admin.")]
    Add(AddArgs),
    /// List API keys, newest first
    #[command(after_help = "Example:\n  stormhook key list --all")]
    List(ListArgs),
    /// Revoke an API key: it is refused from the next request on
    #[command(after_help = "Example:\n  stormhook key revoke key_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Revoke(OneArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scope {
    /// Send events
    Ingest,
    /// Read everything but secrets, API keys and the audit log
    Read,
    /// Change endpoints, deliveries and recoveries
    Write,
    /// Everything
    Admin,
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct AddArgs {
    /// A name for people
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What the key allows; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// Bind the key to this organization
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,
    /// From when on the key is refused: RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<String>,
    /// After how long the key is refused, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    expires_in: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The API key's id
    #[arg(value_name = "KEY", value_parser = input::id)]
    id: String,
}

pub(crate) async fn run(command: KeyCommand, session: Session) -> Result<(), Failure> {
    match command {
        KeyCommand::Add(args) => add(&args, &session).await,
        KeyCommand::List(args) => list(&args, &session).await,
        KeyCommand::Revoke(args) => {
            let path = format!("/v1/keys/{}", args.id);
            let call =
                session
                    .client
                    .call(Method::DELETE, &path, None, crate::client::CALL_TIMEOUT);
            let answer = call.await?;
            if session.screen.json {
                return session.screen.answer(&answer.body);
            }
            let text = describe(&answer.value()?, session.screen.colour);
            session.screen.line(&text)
        }
    }
}

async fn add(args: &AddArgs, session: &Session) -> Result<(), Failure> {
    let expires_at = match args.expires_in {
        Some(after) => {
            let at = local::wall_clock().checked_add(after);
            let at = at.ok_or_else(|| Failure::Usage("--expires-in is too long".to_owned()))?;
            Some(input::rfc3339(at)?)
        }
        None => args.expires_at.clone(),
    };
    let name = |scope: &Scope| {
        scope
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
    };
    let scopes: Vec<String> = args.scopes.iter().filter_map(name).collect();
    let body = json!({
        "name": args.name,
        "organizationId": args.organization,
        "scopes": scopes,
        "expiresAt": expires_at,
    });
    let answer = session.client.send(Method::POST, "/v1/keys", &body).await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let key = answer.value()?;
    session
        .screen
        .line(&describe(&key, session.screen.colour))?;
    session
        .screen
        .remark("The key is shown only now. Keep it in a file that only its user can read.");
    Ok(())
}

async fn list(args: &ListArgs, session: &Session) -> Result<(), Failure> {
    let heads = [
        "KEY",
        "NAME",
        "ORGANIZATION",
        "SCOPES",
        "CREATED",
        "LAST USED",
        "EXPIRES",
        "REVOKED",
    ];
    pages::list(session, "/v1/keys", &[], &args.paging, &heads, |key| {
        vec![
            Cell::of(key, "id"),
            Cell::of(key, "name"),
            Cell::of(key, "organizationId"),
            scopes_cell(key),
            Cell::of(key, "createdAt"),
            Cell::of(key, "lastUsedAt"),
            Cell::of(key, "expiresAt"),
            Cell::of(key, "revokedAt"),
        ]
    })
    .await
}

fn scopes_cell(key: &Value) -> Cell {
    let scopes = key.get("scopes").and_then(Value::as_array);
    let scopes: Vec<&str> = scopes
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    Cell::text(&scopes.join(", "))
}

fn describe(key: &Value, colour: bool) -> String {
    let mut rows = vec![
        ("id", Cell::of(key, "id").tone(Tone::Bold)),
        ("name", Cell::of(key, "name")),
        ("organization", Cell::of(key, "organizationId")),
        ("scopes", scopes_cell(key)),
        ("created", Cell::of(key, "createdAt")),
        ("last used", Cell::of(key, "lastUsedAt")),
        ("expires", Cell::of(key, "expiresAt")),
        ("revoked", Cell::of(key, "revokedAt")),
    ];
    if key.get("key").is_some_and(Value::is_string) {
        rows.push(("key", Cell::of(key, "key").tone(Tone::Bold)));
    }
    pairs(&rows, colour)
}

/// Which entries of the audit log to list: `stormhook audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only changes that concern this organization
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,
    /// Only changes of the object with this id
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// At or after this time: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    since: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    until: Option<Moment>,
    #[command(flatten)]
    paging: Paging,
}

pub(crate) const AUDIT_EXAMPLES: &str = "\
Examples:
  stormhook audit --since 24h
  stormhook audit --target ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A --json";

/// Lists the audit log.
pub(crate) async fn audit(args: AuditArgs, session: Session) -> Result<(), Failure> {
    let now = local::wall_clock();
    let (since, until) = input::span(args.since.as_ref(), args.until.as_ref(), now)?;
    let filters = [
        ("organizationId", args.organization.as_deref()),
        ("target", args.target.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
    ];
    let heads = [
        "AT",
        "BY",
        "ACTION",
        "ORGANIZATION",
        "TARGET",
        "CHANGE",
        "REASON",
    ];
    pages::list(
        &session,
        "/v1/audit",
        &filters,
        &args.paging,
        &heads,
        |entry| {
            vec![
                Cell::of(entry, "at"),
                Cell::text(&by(entry)),
                Cell::of(entry, "action"),
                Cell::of(entry, "organizationId"),
                Cell::of(entry, "target"),
                Cell::text(&change(entry)),
                Cell::of(entry, "reason"),
            ]
        },
    )
    .await
}

/// Names who made a change: the kind, and the key's name.
fn by(entry: &Value) -> String {
    let part = |name: &str| {
        entry
            .pointer(&format!("/principal/{name}"))
            .and_then(Value::as_str)
    };
    match (part("kind").unwrap_or("-"), part("name")) {
        (kind, Some(name)) => format!("{kind} {name}"),
        (kind, None) => kind.to_owned(),
    }
}

/// Shows each changed field as `name: before → after`.
fn change(entry: &Value) -> String {
    let fields = |name: &str| entry.get(name).and_then(Value::as_object);
    let (before, after) = (fields("before"), fields("after"));
    let names = before
        .into_iter()
        .chain(after)
        .flat_map(serde_json::Map::keys);
    let names: std::collections::BTreeSet<&String> = names.collect();
    let changes = names.into_iter().map(|name| {
        let value =
            |of: Option<&serde_json::Map<String, Value>>| of?.get(name).map(Value::to_string);
        match (value(before), value(after)) {
            (Some(before), Some(after)) => format!("{name}: {before} → {after}"),
            (Some(before), None) => format!("{name}: {before} →"),
            (None, after) => format!("{name}: {}", after.unwrap_or_default()),
        }
    });
    changes.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_each_field_before_and_after() {
        let entry = json!({
            "principal": {"kind": "key", "name": "console"},
            "before": {"active": true, "url": "https://a.example/"},
            "after": {"active": false, "discardHeld": true},
        });
        assert_eq!(by(&entry), "key console");
        assert_eq!(
            change(&entry),
            "active: true → false, discardHeld: true, url: \"https://a.example/\" →"
        );
        assert_eq!(change(&json!({"before": null, "after": null})), "");
        assert_eq!(
            by(&json!({"principal": {"kind": "socket", "name": null}})),
            "socket"
        );
    }

    #[test]
    fn a_key_is_shown_only_if_the_answer_has_it() {
        let key = json!({"id": "key_1", "name": "x", "scopes": ["read", "write"], "key": "shk_a"});
        assert!(describe(&key, false).contains("shk_a"));
        assert!(describe(&key, false).contains("read, write"));
        let listed = json!({"id": "key_1", "name": "x", "scopes": []});
        assert!(!describe(&listed, false).contains("key  "));
    }
}

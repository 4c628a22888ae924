//! `stormhook key …`: API keys.

use crate::Session;
use crate::failure::Failure;
use crate::input;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_only_if_the_answer_has_it() {
        let key = json!({"id": "key_1", "name": "x", "scopes": ["read", "write"], "key": "shk_a"});
        assert!(describe(&key, false).contains("shk_a"));
        assert!(describe(&key, false).contains("read, write"));
        let listed = json!({"id": "key_1", "name": "x", "scopes": []});
        assert!(!describe(&listed, false).contains("key  "));
    }
}

//! `stormhook event purge`: removes what events hold.

use crate::Session;
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local;
use crate::table::{Cell, pairs};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

pub(super) const EXAMPLES: &str = "\
Examples:
  stormhook event purge --organization org_42 evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A
  stormhook event purge --organization org_42 --before 90d --yes

From the answer on, nothing of it is shown or sent. In the background it is
removed from the store, and open deliveries end as FAILED (purged). The events
stay listed, without data. This can't be undone.";

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct PurgeArgs {
    /// The events, up to 100
    #[arg(
        value_name = "EVENT",
        value_parser = input::id,
        required_unless_present = "before",
        conflicts_with = "before"
    )]
    events: Vec<String>,
    /// The organization that they belong to
    #[arg(long, value_name = "ORGANIZATION")]
    organization: String,
    /// All its events accepted before this time: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = input::moment, requires = "yes")]
    before: Option<Moment>,
    /// Do it without a question
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: &PurgeArgs, session: &Session) -> Result<(), Failure> {
    let mut body = json!({"organizationId": args.organization});
    let (name, value) = match &args.before {
        Some(before) => {
            let before = before.to_rfc3339(local::wall_clock())?;
            ("before", json!(before))
        }
        None => ("eventIds", json!(args.events)),
    };
    if let Some(body) = body.as_object_mut() {
        body.insert(name.to_owned(), value);
    }
    let client = &session.client;
    let answer = client.send(Method::POST, "/v1/events/purge", &body).await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let value = answer.value()?;
    let events = match value.get("eventIds").and_then(Value::as_array) {
        Some(ids) => Cell::text(&ids.len().to_string()),
        None => Cell::text("all accepted before"),
    };
    let rows = [
        ("organization", Cell::of(&value, "organizationId")),
        ("purged events", events),
        ("before", Cell::of(&value, "before")),
    ];
    session.screen.line(&pairs(&rows, session.screen.colour))
}

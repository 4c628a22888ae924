//! `stormhook audit`: who changed what.

use crate::Session;
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local;
use crate::pages::{self, Paging};
use crate::table::Cell;
use clap::Args;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

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

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook audit --since 24h
  stormhook audit --target ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A --json";

pub(crate) async fn run(args: AuditArgs, session: Session) -> Result<(), Failure> {
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
    let names = before.into_iter().chain(after).flat_map(Map::keys);
    let names: BTreeSet<&String> = names.collect();
    let changes = names.into_iter().map(|name| {
        let value = |of: Option<&Map<String, Value>>| of?.get(name).map(Value::to_string);
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
    use serde_json::json;

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
}

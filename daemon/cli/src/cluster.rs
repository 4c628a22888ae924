//! `stormhook cluster`: the daemons that share the store.

use crate::Session;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use serde_json::Value;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook cluster
  stormhook cluster --json | jq '.daemons[].address'";

pub(crate) async fn run(session: Session) -> Result<(), Failure> {
    let answer = session.client.get("/v1/cluster").await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let text = render(&answer.value()?, session.screen.colour);
    session.screen.line(&text)
}

fn render(cluster: &Value, colour: bool) -> String {
    let daemons = cluster.get("daemons").and_then(Value::as_array);
    let mut table = Table::new(
        &["DAEMON", "VERSION", "ADDRESS", "SHARDS", "LAST SEEN"],
        colour,
    );
    let rows: Vec<Vec<Cell>> = daemons
        .into_iter()
        .flatten()
        .map(|daemon| {
            let keys = ["id", "version", "address", "shards", "lastSeen"];
            keys.map(|key| Cell::of(daemon, key)).into()
        })
        .collect();
    let mut text = table.part(&rows);
    let shards = cluster.get("shards").and_then(Value::as_array);
    let moving = shards
        .into_iter()
        .flatten()
        .filter(|shard| shard.get("daemon").is_none_or(Value::is_null))
        .count();
    if moving > 0 {
        text.push_str(&format!("\n{moving} shards have no daemon at the moment."));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shards_without_a_daemon_are_told() {
        let cluster = json!({
            "daemons": [{"id": "0", "version": "0.1.0", "address": null, "shards": 1, "lastSeen": "t"}],
            "shards": [{"shard": 0, "daemon": "0"}, {"shard": 1, "daemon": null}],
        });
        let text = render(&cluster, false);
        assert!(text.contains("0.1.0"), "{text}");
        assert!(
            text.ends_with("1 shards have no daemon at the moment."),
            "{text}"
        );
    }
}

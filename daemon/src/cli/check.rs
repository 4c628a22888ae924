//! `stormhook check`: whether the store is whole. Online the daemon verifies a snapshot; a stopped store is read, never written.
//!
//! Damage is named and makes the status 1; it is never skipped.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::Client;
use super::daemon_side;
use super::failure::Failure;
use super::screen::{Screen, Tone, plain};
use super::socket::Surroundings;
use super::table::words;

/// A check reads the whole store; a large one on a slow disk takes its time.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook check                              the running daemon's
  stormhook check --store /var/lib/stormhook   a stopped one's, read-only

Status 1 says that there is damage, and names it.";

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The data folder of a stopped daemon [default: ask the running one]
    #[arg(long, value_name = "FOLDER", conflicts_with = "socket")]
    store: Option<PathBuf>,
    /// The daemon's configuration: its socket is asked, or its store is read where nobody answers
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store", "socket"])]
    config: Option<PathBuf>,
}

pub(crate) async fn run(
    args: CheckArgs,
    socket: Option<PathBuf>,
    screen: Screen,
) -> Result<(), Failure> {
    if let Some(folder) = args.store {
        return daemon_side::check_stopped(&folder, &screen);
    }
    if let Some(file) = args.config {
        let (socket, folder) = daemon_side::places(&file)?;
        return match Client::find(&Surroundings::of_process(socket)).await {
            Ok(client) => online(&client, &screen).await,
            Err(_) => daemon_side::check_stopped(&folder, &screen),
        };
    }
    let surroundings = Surroundings::of_process(socket);
    let named = surroundings.flag.is_some() || surroundings.variable.is_some();
    match Client::find(&surroundings).await {
        Ok(client) => online(&client, &screen).await,
        // Where nothing was named, the daemon's own folder is what is meant.
        Err(unreachable) if !named => {
            match surroundings.data_folder().filter(|folder| folder.is_dir()) {
                Some(folder) => daemon_side::check_stopped(&folder, &screen),
                None => Err(unreachable),
            }
        }
        Err(unreachable) => Err(unreachable),
    }
}

async fn online(client: &Client, screen: &Screen) -> Result<(), Failure> {
    let answer = client
        .call(Method::POST, "/v1/check", None, CHECK_TIMEOUT)
        .await?;
    let report = answer.value()?;
    if screen.json {
        screen.answer(&answer.body)?;
    }
    let damage = damage_of(&report);
    if screen.json {
        return if damage.is_empty() {
            Ok(())
        } else {
            Err(Failure::Shown)
        };
    }
    tell(&damage, screen)
}

/// Says what was found, one line each; damage makes the status 1.
pub(crate) fn tell(damage: &[String], screen: &Screen) -> Result<(), Failure> {
    if damage.is_empty() {
        return screen.line(&screen.paint(Tone::Good, "The store is whole."));
    }
    for item in damage {
        screen.line(&format!(
            "{} {}",
            screen.paint(Tone::Bad, "damaged:"),
            plain(item)
        ))?;
    }
    Err(Failure::No(format!(
        "the store is damaged in {} places: restore a backup, and keep the damaged file for study",
        damage.len()
    )))
}

/// What a report names as damage: its `damage` list, or an `ok` that is false.
fn damage_of(report: &Value) -> Vec<String> {
    let listed = ["damage", "damages", "problems"]
        .iter()
        .find_map(|key| report.get(key))
        .and_then(Value::as_array);
    let mut damage: Vec<String> = listed.into_iter().flatten().map(words).collect();
    if damage.is_empty() && report.get("ok").and_then(Value::as_bool) == Some(false) {
        damage.push(report.to_string());
    }
    damage
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn damage_is_named_and_makes_the_status_1() {
        let damage =
            damage_of(&json!({"ok": false, "damage": ["pack evt_1: checksum", {"table":"due"}]}));
        assert_eq!(damage, ["pack evt_1: checksum", "{\"table\":\"due\"}"]);
        assert_eq!(
            tell(&damage, &Screen::piped()).unwrap_err().status(),
            super::super::failure::REFUSED
        );
        assert_eq!(damage_of(&json!({"ok": false})).len(), 1);
    }

    #[test]
    fn a_whole_store_is_ok() {
        assert_eq!(
            damage_of(&json!({"ok": true, "damage": []})),
            Vec::<String>::new()
        );
        assert!(tell(&[], &Screen::piped()).is_ok());
    }
}

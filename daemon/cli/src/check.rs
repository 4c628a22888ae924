//! `stormhook check`: verifies the store. Online, the daemon verifies a snapshot; a stopped store is read, never
//! written.
//!
//! Damage is named and sets the exit status to 1. Nothing else does, except a refusal by the daemon.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use http::Method;

use crate::client::Client;
use crate::failure::Failure;
use crate::local::{self, PlaceFlags, STORE_FILE};
use crate::locate::{self, Found};
use crate::options::DaemonOptions;
use crate::report::Report;
use crate::socket::Surroundings;
use crate::table::counted;
use crate::terminal::{Screen, Tone, plain};

/// A check reads the whole store; a large one on a slow disk takes long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook check
  stormhook check --data-dir /var/lib/stormhook
  stormhook check --config /etc/stormhook/stormhook.toml

The running daemon checks a snapshot; if no daemon answers, the stopped store
is read, never written. Status 1 means that damage was found, and the output
names it; 3 that neither a daemon nor a store was found.";

#[derive(Debug, Default, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    places: PlaceFlags,
}

pub(crate) async fn run(
    args: CheckArgs,
    daemon: DaemonOptions,
    screen: Screen,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(daemon);
    check(&args.places, &surroundings, &screen).await
}

async fn check(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    match locate::find(flags, surroundings, screen).await? {
        Found::Daemon(client) => online(&client, screen).await,
        Found::Stopped(folder) => tell(&at_rest(&folder)?, screen),
    }
}

/// Checks a stopped store. The engine panics on some damaged pages; this is caught and reported as damage instead of a
/// backtrace.
fn at_rest(folder: &Path) -> Result<Report, Failure> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = local::check_stopped(&folder.join(STORE_FILE));
    std::panic::set_hook(hook);
    found.map_err(Failure::Usage)
}

async fn online(client: &Client, screen: &Screen) -> Result<(), Failure> {
    let answer = client
        .call(Method::POST, "/v1/check", None, CHECK_TIMEOUT)
        .await?;
    let report: Report = answer.read()?;
    if !screen.json {
        return tell(&report, screen);
    }
    // The API's response, with all its fields.
    screen.answer(&answer.body)?;
    shown(&report)
}

/// Returns the exit status of a report that has been printed.
fn shown(report: &Report) -> Result<(), Failure> {
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

/// Prints the findings, one line for each damage; damage sets the status to 1.
fn tell(report: &Report, screen: &Screen) -> Result<(), Failure> {
    if screen.json {
        // Through a value, whose keys have the order of the API.
        let value = serde_json::to_value(report).unwrap_or_default();
        screen.line(&value.to_string())?;
        return shown(report);
    }
    for item in &report.damage {
        screen.line(&format!(
            "{} {}",
            screen.paint(Tone::Bad, "damaged:"),
            plain(item)
        ))?;
    }
    if !report.ok {
        return Err(Failure::No(verdict(report)));
    }
    if let Some(id) = &report.secrets_key_id {
        screen.line(&format!("Secrets are encrypted with key {}", plain(id)))?;
    }
    screen.line(&format!(
        "{}: {}",
        screen.paint(Tone::Good, "The store is intact"),
        [
            counted(report.rows, "row", "rows"),
            counted(report.events, "event", "events"),
            counted(report.deliveries, "delivery", "deliveries"),
        ]
        .join(", ")
    ))
}

fn verdict(report: &Report) -> String {
    let places = u64::try_from(report.damage.len()).unwrap_or(u64::MAX);
    format!(
        "the store is damaged in {}: restore a backup, and keep the damaged file for analysis",
        counted(places, "place", "places")
    )
}

#[cfg(test)]
mod tests {
    use super::super::failure::{REFUSED, UNREACHABLE, USAGE};
    use super::super::fake_daemon;
    use super::super::local::StoreState;
    use super::*;

    const WHOLE: &str = r#"{"ok":true,"rows":3,"events":2,"deliveries":1,"damage":[]}"#;

    fn whole() -> Report {
        serde_json::from_str(WHOLE).unwrap()
    }

    /// Surroundings without names or a daemon.
    fn nowhere(folder: &Path) -> Surroundings {
        Surroundings {
            flag: Some(folder.join("dead.sock")),
            ..Surroundings::default()
        }
    }

    fn flags(folder: &Path) -> PlaceFlags {
        PlaceFlags {
            config: None,
            data_dir: Some(folder.to_owned()),
        }
    }

    fn store_in(folder: &Path) -> stormhook_store::Store {
        stormhook_store::Store::open(stormhook_store::Options::new(folder.join(STORE_FILE)))
            .unwrap()
    }

    #[test]
    fn damage_is_named_and_makes_the_status_1() {
        let report = Report::of_damage("pack evt_1: checksum".into());
        for json in [false, true] {
            let mut screen = Screen::piped();
            screen.json = json;
            assert_eq!(tell(&report, &screen).unwrap_err().status(), REFUSED);
            assert!(tell(&whole(), &screen).is_ok());
        }
        assert!(verdict(&report).starts_with("the store is damaged in 1 place:"));
    }

    #[test]
    fn a_stopped_store_and_a_daemon_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        drop(store_in(folder.path()));
        let report = at_rest(folder.path()).unwrap();
        assert!(report.ok && report.damage.is_empty());
        let said = serde_json::to_value(&report).unwrap().to_string();
        assert!(
            said.starts_with(r#"{"damage":[],"deliveries":0,"events":0,"ok":true,"rows":"#),
            "{said}"
        );
    }

    #[test]
    fn a_file_that_is_no_store_is_damage_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(STORE_FILE);
        assert_eq!(local::look(folder.path()), StoreState::Absent);
        for bytes in [
            Vec::new(),
            b"not a store".to_vec(),
            vec![0; 100_000],
            vec![b'x'; 100_000],
        ] {
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(local::look(folder.path()), StoreState::AtRest);
            let report = at_rest(folder.path()).unwrap();
            assert!(!report.ok, "{} bytes", bytes.len());
        }
        assert_eq!(local::look(&file), StoreState::Absent);
    }

    #[tokio::test]
    async fn a_dead_socket_leaves_the_store_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (flags, around) = (flags(folder.path()), nowhere(folder.path()));
        let missing = check(&flags, &around, &Screen::piped()).await;
        assert_eq!(missing.unwrap_err().status(), USAGE);
        let store = store_in(folder.path());
        let open = check(&flags, &around, &Screen::piped()).await;
        let open = open.unwrap_err();
        assert_eq!(open.status(), UNREACHABLE);
        assert!(
            open.to_string().contains("open in another process"),
            "{open}"
        );
        drop(store);
        check(&flags, &around, &Screen::piped()).await.unwrap();
    }

    #[tokio::test]
    async fn a_wrong_folder_is_usage_and_never_damage() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            let around = Surroundings::default();
            let failure = check(&flags(&path), &around, &Screen::piped()).await;
            assert_eq!(failure.unwrap_err().status(), USAGE, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn a_store_that_a_daemon_has_open_is_checked_by_the_daemon() {
        let daemon = fake_daemon::daemon(|request| {
            assert_eq!(
                (request.method(), request.uri().path()),
                (&Method::POST, "/v1/check")
            );
            fake_daemon::said(200, WHOLE)
        });
        let folder = daemon.folder.path();
        let _store = store_in(folder);
        let around = Surroundings::default();
        check(&flags(folder), &around, &Screen::piped())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_daemon_of_another_store_is_not_asked_about_this_one() {
        let daemon = fake_daemon::daemon(|_| fake_daemon::said(200, WHOLE));
        let elsewhere = tempfile::tempdir().unwrap();
        let (held, free) = (elsewhere.path().join("held"), elsewhere.path().join("free"));
        std::fs::write(&free, "").unwrap();
        let _held = std::fs::File::create(&held).unwrap();
        let sockets = [daemon
            .folder
            .path()
            .join(stormhook_daemon::config::SOCKET_FILE)];
        assert!(Client::of_holder(&sockets, &held).await.is_some());
        assert!(Client::of_holder(&sockets, &free).await.is_none());
        assert!(
            Client::of_holder(&sockets, &elsewhere.path().join("none"))
                .await
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_daemon_that_finds_damage_makes_the_status_1() {
        let daemon = fake_daemon::daemon(|_| {
            let report = Report::of_damage("due".into());
            fake_daemon::said(200, &serde_json::to_string(&report).unwrap())
        });
        for json in [false, true] {
            let mut screen = Screen::piped();
            screen.json = json;
            let found = online(&daemon.session.client, &screen).await;
            assert_eq!(found.unwrap_err().status(), REFUSED);
        }
    }
}

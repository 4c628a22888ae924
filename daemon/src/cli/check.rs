//! `stormhook check`: whether the store is whole. Online the daemon verifies a snapshot; a stopped store is read, never written.
//!
//! Damage is named and makes the status 1; it is never skipped, and nothing else makes it 1 but a daemon that says no. A folder
//! that is named is looked at first, a socket that is named before any folder; without names the daemon is asked where it usually
//! listens, and where nobody answers, the store that it would open is read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::daemon_side::{self, PlaceFlags, Places, STORE_FILE, Stopped};
use super::failure::Failure;
use super::screen::{Screen, Tone, plain};
use super::socket::{SOCKET_FILE, Surroundings};
use super::table::counted;

/// A check reads the whole store; a large one on a slow disk takes its time.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook check
  stormhook check --data-dir /var/lib/stormhook
  stormhook check --config /etc/stormhook.toml

The running daemon checks a snapshot; where none answers, its store is read,
and never written. Status 1 says that there is damage, and names it; 3 that
neither a daemon nor a store was found.";

#[derive(Debug, Default, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    places: PlaceFlags,
}

/// What a check found, as the API says it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// No damage.
    pub(crate) ok: bool,
    /// Rows looked at.
    pub(crate) rows: u64,
    /// Events found.
    pub(crate) events: u64,
    /// Deliveries found.
    pub(crate) deliveries: u64,
    /// Every damage, named.
    pub(crate) damage: Vec<String>,
}

impl Report {
    /// Of a store that is too damaged to be looked through.
    pub(crate) fn of_damage(what: String) -> Self {
        Self {
            ok: false,
            rows: 0,
            events: 0,
            deliveries: 0,
            damage: vec![what],
        }
    }
}

pub(crate) async fn run(
    args: CheckArgs,
    socket: Option<PathBuf>,
    screen: Screen,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(socket);
    match (&args.places.data_dir, &surroundings.flag) {
        (Some(folder), None) => named_folder(folder, &args.places, &surroundings, &screen).await,
        _ => daemon_or_its_store(&args.places, &surroundings, &screen).await,
    }
}

/// Looks at a store at rest. The engine panics on some damaged pages: that is caught, and told as damage instead of a backtrace.
fn at_rest(folder: &Path) -> Stopped {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = daemon_side::check_stopped(folder);
    std::panic::set_hook(hook);
    found
}

/// The store in this folder, through its daemon where one has it open.
async fn named_folder(
    folder: &Path,
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    match at_rest(folder) {
        Stopped::Checked(report) => tell(&report, screen),
        Stopped::InUse => through_its_daemon(folder, flags, surroundings, screen).await,
        Stopped::Absent => Err(Failure::Usage(absent(folder))),
        Stopped::Unreadable(why) => Err(Failure::Usage(why)),
    }
}

/// The daemon where one answers, else the store that it would open.
async fn daemon_or_its_store(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    let places = flags.load(surroundings.flag.as_deref());
    let sockets = sockets_of(flags, surroundings, &places)?;
    let unreachable = match Client::find(&sockets).await {
        Ok(client) => return online(&client, screen).await,
        Err(unreachable) => unreachable,
    };
    let folder = places?.data_dir;
    let why = match at_rest(&folder) {
        Stopped::Checked(report) => {
            screen.remark(&format!(
                "No daemon answers: this is the stopped store in {}, read-only.",
                folder.display()
            ));
            return tell(&report, screen);
        }
        Stopped::InUse => return through_its_daemon(&folder, flags, surroundings, screen).await,
        // A wrong path is as wrong beside a dead socket.
        Stopped::Absent if flags.data_dir.is_some() => {
            return Err(Failure::Usage(absent(&folder)));
        }
        Stopped::Absent => absent(&folder),
        Stopped::Unreadable(why) => why,
    };
    Err(Failure::Unreachable(format!("{unreachable}\nAnd {why}.")))
}

/// The daemon that has this store open: at the folder's own socket, or at another place where the process that listens can be
/// seen to hold the file. One that merely answers may keep another store, and its word would be taken for this one's.
async fn through_its_daemon(
    folder: &Path,
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    let in_use = format!(
        "The store in {} is open in another process",
        folder.display()
    );
    let own = [folder.join(SOCKET_FILE)];
    let client = match Client::find(&own).await {
        Ok(client) => Some(client),
        Err(_) => {
            let mut others = sockets_of(flags, surroundings, &flags.load(None))?;
            let unnamed = Surroundings {
                flag: None,
                variable: None,
                ..surroundings.clone()
            };
            others.extend(unnamed.candidates());
            Client::of_holder(&others, &folder.join(STORE_FILE)).await
        }
    };
    let Some(client) = client else {
        return Err(Failure::Unreachable(format!(
            "{in_use}, and no daemon is reachable that has it open: name its socket with --socket PATH, or stop that process"
        )));
    };
    screen.remark(&format!(
        "{in_use}: asking the daemon at {}.",
        client.socket().display()
    ));
    online(&client, screen).await
}

/// Where the daemon may listen: the socket that was named, on the command line or by the configuration, else the usual places.
fn sockets_of(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    places: &Result<Places, Failure>,
) -> Result<Vec<PathBuf>, Failure> {
    match places {
        _ if surroundings.flag.is_some() => Ok(surroundings.candidates()),
        Ok(Places {
            sockets: Some(named),
            ..
        }) => Ok(named.clone()),
        Ok(places) => {
            let surroundings = Surroundings {
                data_dir: Some(places.data_dir.clone()),
                ..surroundings.clone()
            };
            Ok(surroundings.candidates())
        }
        // A file that was named must be right; the rest is only needed once no daemon answers.
        Err(failure) if flags.names_a_file() => Err(Failure::Usage(failure.to_string())),
        Err(_) => Ok(surroundings.candidates()),
    }
}

fn absent(folder: &Path) -> String {
    let shown = folder.display();
    if folder.is_dir() {
        format!("there is no {STORE_FILE} in {shown}: is this a daemon's data folder?")
    } else if folder.exists() {
        format!("{shown} is no folder: name the one that holds {STORE_FILE}")
    } else {
        format!("there is no folder {shown}")
    }
}

async fn online(client: &Client, screen: &Screen) -> Result<(), Failure> {
    let answer = client
        .call(Method::POST, "/v1/check", None, CHECK_TIMEOUT)
        .await?;
    let report: Report = answer.read()?;
    if !screen.json {
        return tell(&report, screen);
    }
    // What the API said, with whatever it says beside.
    screen.answer(&answer.body)?;
    shown(&report)
}

/// The status of a report that is on the screen already.
fn shown(report: &Report) -> Result<(), Failure> {
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

/// Says what was found, damage one line each; damage makes the status 1.
fn tell(report: &Report, screen: &Screen) -> Result<(), Failure> {
    if screen.json {
        // By way of a value, whose keys are in the order in which the API has them.
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
    screen.line(&format!(
        "{}: {}",
        screen.paint(Tone::Good, "The store is whole"),
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
        "the store is damaged in {}: restore a backup, and keep the damaged file for study",
        counted(places, "place", "places")
    )
}

#[cfg(test)]
mod tests {
    use super::super::failure::{REFUSED, UNREACHABLE, USAGE};
    use super::super::pretend;
    use super::*;

    const WHOLE: &str = r#"{"ok":true,"rows":3,"events":2,"deliveries":1,"damage":[]}"#;

    fn whole() -> Report {
        serde_json::from_str(WHOLE).unwrap()
    }

    /// Surroundings in which nothing is named and no daemon is.
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
        stormhook_store::Store::open(stormhook_store::Options {
            path: folder.join(STORE_FILE),
            cache_bytes: 1 << 20,
            pending_limit: 10,
            endpoints_per_organization: 10,
            idempotency_ttl_ms: 1_000_000,
        })
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
        let Stopped::Checked(report) = daemon_side::check_stopped(folder.path()) else {
            panic!("not checked")
        };
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
        assert_eq!(daemon_side::check_stopped(folder.path()), Stopped::Absent);
        for bytes in [
            Vec::new(),
            b"not a store".to_vec(),
            vec![0; 100_000],
            vec![b'x'; 100_000],
        ] {
            std::fs::write(&file, &bytes).unwrap();
            let found = daemon_side::check_stopped(folder.path());
            let Stopped::Checked(report) = found else {
                panic!("{} bytes: {found:?}", bytes.len())
            };
            assert!(!report.ok, "{} bytes", bytes.len());
        }
        assert_eq!(daemon_side::check_stopped(&file), Stopped::Absent);
    }

    #[tokio::test]
    async fn a_dead_socket_leaves_the_store_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (flags, around) = (flags(folder.path()), nowhere(folder.path()));
        let missing = daemon_or_its_store(&flags, &around, &Screen::piped()).await;
        assert_eq!(missing.unwrap_err().status(), USAGE);
        let store = store_in(folder.path());
        let open = daemon_or_its_store(&flags, &around, &Screen::piped()).await;
        let open = open.unwrap_err();
        assert_eq!(open.status(), UNREACHABLE);
        assert!(
            open.to_string().contains("open in another process"),
            "{open}"
        );
        drop(store);
        daemon_or_its_store(&flags, &around, &Screen::piped())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_wrong_folder_is_usage_and_never_damage() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            let around = Surroundings::default();
            let failure = named_folder(&path, &flags(&path), &around, &Screen::piped()).await;
            assert_eq!(failure.unwrap_err().status(), USAGE, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn a_store_that_a_daemon_has_open_is_checked_by_the_daemon() {
        let daemon = pretend::daemon(|request| {
            assert_eq!(
                (request.method(), request.uri().path()),
                (&Method::POST, "/v1/check")
            );
            pretend::said(200, WHOLE)
        });
        let folder = daemon.folder.path();
        let _store = store_in(folder);
        let around = Surroundings::default();
        named_folder(folder, &flags(folder), &around, &Screen::piped())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_daemon_of_another_store_is_not_asked_about_this_one() {
        let daemon = pretend::daemon(|_| pretend::said(200, WHOLE));
        let elsewhere = tempfile::tempdir().unwrap();
        let (held, free) = (elsewhere.path().join("held"), elsewhere.path().join("free"));
        std::fs::write(&free, "").unwrap();
        let _held = std::fs::File::create(&held).unwrap();
        let sockets = [daemon.session.client.socket().to_owned()];
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
        let daemon = pretend::daemon(|_| {
            let report = Report::of_damage("due".into());
            pretend::said(200, &serde_json::to_string(&report).unwrap())
        });
        for json in [false, true] {
            let mut screen = Screen::piped();
            screen.json = json;
            let found = online(&daemon.session.client, &screen).await;
            assert_eq!(found.unwrap_err().status(), REFUSED);
        }
    }
}

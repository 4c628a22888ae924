//! Everything the command line uses of the daemon's own modules: starting it, its configuration, a stopped store, the
//! time.
//!
//! Client commands use none of this but the time. It is in one place so that the rest of `cli` knows only the API.

mod configuration;
mod database;
mod filter;
mod moves;
mod one_line;
mod records;
mod secrets;
mod settings;
mod transfer;

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::failure::Failure;
use crate::parent;
use crate::report::Report;
pub(crate) use configuration::{ConfigFlags, PlaceFlags, Places};
pub(crate) use database::Database;
pub(crate) use filter::Filter;
pub(crate) use moves::{Place, open_export};
pub(crate) use records::Written;
pub(crate) use secrets::{SecretsReport, reseal_stopped};
pub(crate) use settings::show;
use stormhook_daemon::serve::prepare;
use stormhook_engine::environment::{Environment, System};
use stormhook_store::StoreError;

/// Whether a secret is in quotes.
pub(crate) use stormhook_daemon::http::is_quoted;
/// The store's name in the data directory.
pub(crate) use stormhook_daemon::serve::STORE_FILE;

/// The wall clock.
pub(crate) fn wall_clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(System.wall().0)
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigFlags,
    /// Stop when stdin ends, so that the demo's daemon doesn't outlive the demo
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Runs the daemon until it is told to stop.
pub(crate) fn serve(args: ServeArgs) -> Result<(), Failure> {
    let (config, again) = args.config.load()?;
    // Before any thread starts.
    let prepared = prepare(config).map_err(|error| Failure::No(error.to_string()))?;
    if args.until_stdin_ends {
        parent::end_with_stdin()?;
    }
    stormhook_daemon::serve::serve(prepared, again).map_err(|error| Failure::No(error.to_string()))
}

/// The contents of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StoreState {
    /// A store that is not open. It may be damaged.
    AtRest,
    /// A store that another process has open.
    InUse,
    /// No store.
    Absent,
    /// A store that can't be read, and why. Damage is not reported here but in a report.
    Unreadable(String),
}

/// Checks whether there is a store in this directory that is not open.
pub(crate) fn look(folder: &Path) -> StoreState {
    match stormhook_store::is_open(&folder.join(STORE_FILE)) {
        Ok(false) => StoreState::AtRest,
        Ok(true) => StoreState::InUse,
        Err(StoreError::Io { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory
            ) =>
        {
            StoreState::Absent
        }
        Err(error) => StoreState::Unreadable(error.to_string()),
    }
}

/// Verifies a store that is not open, without writing to it. `Err` says why it can't be read, which is not damage.
pub(crate) fn check_stopped(store: &Path) -> Result<Report, String> {
    match stormhook_store::check_file(store) {
        Ok(found) => Ok(Report {
            ok: found.damage.is_empty(),
            rows: found.rows,
            events: found.events,
            deliveries: found.deliveries,
            damage: found.damage,
            secrets_key_id: found.secrets.form.key().map(|id| id.to_string()),
        }),
        Err(StoreError::Damaged { what, detail }) => {
            Ok(Report::of_damage(format!("{what}: {detail}")))
        }
        Err(error) if error.is_damage() => Ok(Report::of_damage(error.to_string())),
        Err(error) => Err(error.to_string()),
    }
}

/// Copies a store that is not open into an empty file, without writing to the store, until `go_on` returns false.
pub(crate) fn copy_stopped(
    store: &Path,
    to: std::fs::File,
    go_on: impl FnMut() -> bool,
) -> Result<Option<stormhook_store::Copied>, Failure> {
    stormhook_store::copy_file(store, to, go_on).map_err(|error| unread(&error))
}

/// Returns the failure if a stopped store can't be read. Damage is the store's fault, anything else a usage error.
fn unread(error: &StoreError) -> Failure {
    if error.is_damage() {
        Failure::No(error.to_string())
    } else {
        Failure::Usage(error.to_string())
    }
}

/// Rewrites a store that is not open, without its free space.
pub(crate) fn compact_stopped(store: &Path) -> Result<stormhook_store::Compacted, StoreError> {
    stormhook_store::compact_file(store)
}

//! Everything the command line takes from the daemon's own modules: starting it, its configuration, its store at rest, the time.
//!
//! Client commands need none of this but the time; it is kept in one place so that the rest of `cli` knows the API and nothing else.

mod configuration;
mod settings;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::check::Report;
use super::failure::Failure;
use super::leash;
use crate::clock;
pub(crate) use configuration::{ConfigFlags, PlaceFlags, Places};
pub(crate) use settings::show;
use stormhook_store::StoreError;

/// The store's name in the data folder.
pub(crate) use crate::serve::STORE_FILE;

/// The wall clock.
pub(crate) fn wall_clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(clock::wall().0)
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigFlags,
    /// End, and remove this folder, when stdin ends: how the demo leaves nothing behind
    #[arg(long, hide = true, value_name = "FOLDER")]
    leash: Option<PathBuf>,
}

/// Runs the daemon until it is told to stop.
pub(crate) fn serve(args: ServeArgs, socket: Option<&Path>) -> Result<(), Failure> {
    let (config, again) = args.config.load(socket)?;
    if let Some(folder) = args.leash {
        leash::hold(folder)?;
    }
    crate::serve::serve(config, again).map_err(|error| Failure::No(error.to_string()))
}

/// What came of looking at a store that should be at rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It was read.
    Checked(Report),
    /// Another process has it open.
    InUse,
    /// There is none.
    Absent,
    /// It is there, and why it can't be read: not damage, which is in a report.
    Unreadable(String),
}

/// Verifies the store of a stopped daemon without writing to it.
pub(crate) fn check_stopped(folder: &Path) -> Stopped {
    let damaged = |what: String| Stopped::Checked(Report::of_damage(what));
    match stormhook_store::check_file(&folder.join(STORE_FILE)) {
        Ok(found) => Stopped::Checked(Report {
            ok: found.damage.is_empty(),
            rows: found.rows,
            events: found.events,
            deliveries: found.deliveries,
            damage: found.damage,
        }),
        Err(StoreError::AlreadyOpen { .. }) => Stopped::InUse,
        Err(StoreError::Damaged { what, detail }) => damaged(format!("{what}: {detail}")),
        Err(error) if error.is_damage() => damaged(error.to_string()),
        Err(StoreError::Io { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory
            ) =>
        {
            Stopped::Absent
        }
        Err(error) => Stopped::Unreadable(error.to_string()),
    }
}

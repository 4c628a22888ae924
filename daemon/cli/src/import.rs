//! `stormhook import`: makes a store of what `export --with-secrets` wrote (docs/adr/0027-move.md).
//!
//! The store is usable only once the last line has been read and found right. Until then it is marked, and no daemon
//! starts on it. An import that was interrupted is run again from its beginning.

use std::path::PathBuf;

use clap::Args;

use crate::backup;
use crate::export::{blocking, items_in_words};
use crate::failure::Failure;
use crate::local::{self, ConfigFlags, Place};
use crate::progress::Counted;
use crate::terminal::Screen;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook import --data-dir /var/lib/stormhook move.ndjson
  stormhook import --set store.url=postgres://db.internal/stormhook move.ndjson
  ssh old.internal stormhook export --with-secrets --moves-to new.internal \\
    | stormhook import --data-dir /var/lib/stormhook -

FILE is what export --with-secrets wrote; - is stdin. The store must be empty
and unused: a file that doesn't exist yet or in which nothing was ever stored,
or a database that stormhook migrate prepared, without daemons.
Ids, secrets, bodies, numbers, due times and idempotency keys stay as they are.
If it is interrupted, run it again: it begins anew. Until it succeeds, no daemon
starts on the store; --discard gives it up and leaves an empty store.";

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The export, or - for stdin
    #[arg(
        value_name = "FILE",
        required_unless_present = "discard",
        conflicts_with = "discard"
    )]
    file: Option<PathBuf>,
    /// Remove what an interrupted import left
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

pub(crate) async fn run(args: ImportArgs, screen: Screen) -> Result<(), Failure> {
    let place = Place::of(&args.config)?;
    let Some(file) = args.file else {
        return discard(&place, &screen).await;
    };
    let keys = args.config.keys()?;
    let from = local::open_export(&file)?;
    let progress = Counted::start("importing");
    let shown = progress.clone();
    let importing = blocking(move || place.import(keys, from, &shown));
    let counts = tokio::select! {
        imported = importing => imported,
        _ = backup::interrupted() => {
            let what = "interrupted; no daemon starts on the store until the import is run again, from its beginning";
            Err(Failure::No(what.to_owned()))
        }
    };
    progress.finish();
    screen.line(&format!("Imported {}", items_in_words(&counts?)))
}

async fn discard(place: &Place, screen: &Screen) -> Result<(), Failure> {
    if place.discard_import().await? {
        screen.line("Removed what an import left; the store is empty.")
    } else {
        screen.line("Nothing to do: no import was interrupted.")
    }
}

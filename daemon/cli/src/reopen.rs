//! `stormhook reopen`: takes away the mark that keeps daemons from a store that was moved.

use clap::Args;

use crate::failure::Failure;
use crate::local::{ConfigFlags, Place};
use crate::terminal::{Screen, plain};

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook reopen --data-dir /var/lib/stormhook
  stormhook reopen --set store.url=postgres://db.internal/stormhook

Only if no daemon has started on the other store: otherwise both would send what
was outstanding when the store was moved.";

#[derive(Debug, Args)]
pub(crate) struct ReopenArgs {
    #[command(flatten)]
    config: ConfigFlags,
}

pub(crate) async fn run(args: ReopenArgs, screen: Screen) -> Result<(), Failure> {
    match Place::of(&args.config)?.reopen().await? {
        Some(to) => screen.line(&format!(
            "The store was marked as moved to {}. Daemons can use it again.",
            plain(&to)
        )),
        None => screen.line("Nothing to do: the store is not marked as moved."),
    }
}

//! `stormhook migrate`: prepares the database of `store.url`, or says what is to do.

use crate::failure::Failure;
use crate::local::{self, ConfigFlags};
use crate::terminal::Screen;
use clap::Args;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook migrate --set store.url=postgres://stormhook@db.example/stormhook
  stormhook migrate --check && systemctl start stormhook
  stormhook migrate --outbox-only --set outbox.url=postgres://shop@db/shop

Each step is safe beside running daemons of the version before. With --check
nothing is changed, and the exit status is 1 if anything is to do.";

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigFlags,
    /// Change nothing: say what is to do
    #[arg(long)]
    check: bool,
    /// Install the outbox alone, in the database of outbox.url, for producers that use another database than the store
    #[arg(long)]
    outbox_only: bool,
}

pub(crate) async fn run(args: MigrateArgs, screen: Screen) -> Result<(), Failure> {
    let database = if args.outbox_only {
        local::Database::of_outbox(args.config)?
    } else {
        local::Database::of(args.config)?
    };
    if args.check {
        let pending = database.pending().await?;
        if pending.is_empty() {
            return screen.line("Nothing to do.");
        }
        for step in pending {
            screen.line(&step)?;
        }
        return Err(Failure::Shown);
    }
    let done = database.migrate().await?;
    if done.is_empty() {
        return screen.line("Nothing to do.");
    }
    for step in done {
        screen.line(&format!("Done: {step}."))?;
    }
    Ok(())
}

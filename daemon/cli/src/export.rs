//! `stormhook export`: writes everything in the store as NDJSON, for analysis or migration.
//!
//! The export is always from one snapshot. Of a running daemon's store it makes a copy, as for a backup, and deletes it
//! afterwards, so that a long export costs the daemon nothing more. A stopped store, or a backup, is read in place, and
//! a database in one transaction. With secrets it holds everything that a move to another store needs
//! (docs/adr/0027-move.md), and never goes to a terminal.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use crate::backup::{self, Output};
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local::{self, Filter, Place, PlaceFlags, STORE_FILE, Written};
use crate::locate::{self, Found};
use crate::options::DaemonOptions;
use crate::progress::{Copied, Counted};
use crate::socket::Surroundings;
use crate::table::counted;
use crate::terminal::{Screen, plain};
use stormhook_daemon::config::without_password;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook export --output stormhook.ndjson
  stormhook export --organization org_42 --since 7d | gzip > org_42.ndjson.gz
  stormhook export --from backup.redb | jq -c 'select(.status == \"ABANDONED\")'
  stormhook export --with-secrets --moves-to postgres://db.internal/stormhook \\
    --output move.ndjson

One JSON object per line, in the API's format. Its \"object\" is endpoint,
api_key, audit, event or delivery: first endpoints, API keys and the audit
log, then each event with its data, oldest first, each followed by its
deliveries with their attempts. With --organization it is all that the store
holds of one organization. The last line has the
object end and the counts: without it the export is incomplete. Damaged data
has a line with the object damage, and makes the status 1. Secrets, header
values and waitingFor are left out.
A running daemon makes a complete copy first, in the directory of --output or
in $TMPDIR: for a few rows, use event list and delivery list.
With --with-secrets it is what import reads: every secret, body, state, number
and key, in a form for programs. Its last line has a SHA-256 of all before it.
--moves-to needs all daemons stopped. Afterwards none starts on the store, so
that nothing is sent twice; stormhook reopen takes that back.";

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Output file; must not exist [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only this organization
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,
    /// Only this event type, and its deliveries
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Events accepted at or after this time: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    since: Option<Moment>,
    /// Events accepted before this time
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    until: Option<Moment>,
    /// Read a backup instead of the store
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "data_dir"])]
    from: Option<PathBuf>,
    /// Everything that import needs, with secrets; the file gets mode 0600
    #[arg(long, conflicts_with_all = ["organization", "event_type", "since", "until"])]
    with_secrets: bool,
    /// Mark the stopped store as moved to this place, such as the URL of a database
    #[arg(
        long,
        value_name = "WHERE",
        requires = "with_secrets",
        conflicts_with = "from"
    )]
    moves_to: Option<String>,
    #[command(flatten)]
    places: PlaceFlags,
}

pub(crate) async fn run(
    args: ExportArgs,
    daemon: DaemonOptions,
    screen: Screen,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(daemon);
    tokio::select! {
        done = export(&args, &surroundings, &screen) => done,
        Failure::No(ended) = backup::interrupted() => Err(Failure::No(match args.moves_to {
            Some(_) => format!("{ended}. If the store is marked as moved already, `stormhook reopen` takes the mark away"),
            None => ended,
        })),
    }
}

async fn export(
    args: &ExportArgs,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    if args.with_secrets && args.output.is_none() && io::stdout().is_terminal() {
        let what = "secrets are not written to a terminal: add --output FILE, or redirect stdout";
        return Err(Failure::Usage(what.to_owned()));
    }
    let now = local::wall_clock();
    let (since, until) = input::span(args.since.as_ref(), args.until.as_ref(), now)?;
    let filter = Filter {
        organization: args.organization.clone(),
        event_type: args.event_type.clone(),
        since,
        until,
    };
    let output = args.output.as_deref().map(Output::beside).transpose()?;
    // The copy is kept until the export has ended.
    let (place, _copy) = find(args, surroundings, screen).await?;
    let to: Box<dyn Write + Send> = match &output {
        Some(output) => Box::new(output.writer()?),
        None => Box::new(io::stdout()),
    };
    let mut out = BufWriter::with_capacity(64 << 10, to);
    if args.with_secrets {
        // Whoever starts a daemon on the old store sees it.
        let moving = args.moves_to.as_deref().map(without_password);
        let progress = Counted::start("exporting");
        let (from, shown, moved_to) = (place.clone(), progress.clone(), moving.clone());
        let keys = args.places.keys()?;
        let written =
            blocking(move || from.write_all(keys, moving.as_deref(), &mut out, &shown)).await;
        progress.finish();
        let counts = written.map_err(|failure| match failure {
            Failure::OutputClosed => {
                let what = "the reader of the output has closed it: the export is incomplete";
                Failure::No(what.to_owned())
            }
            failure => failure,
        })?;
        if let (Some(output), Some(file)) = (output, &args.output)
            && let Err(failure) = output.put_in_place(file)
        {
            if args.moves_to.is_some() {
                // Nothing was moved.
                place.reopen().await?;
            }
            return Err(failure);
        }
        tell(moved_to.as_deref(), &counts, screen);
        return Ok(());
    }
    let written = blocking(move || place.write_records(&filter, &mut out)).await?;
    if let (Some(output), Some(file)) = (output, &args.output) {
        output.put_in_place(file)?;
        screen.remark(&in_words(written));
    }
    if written.damaged > 0 {
        let places = counted(written.damaged, "place", "places");
        return Err(Failure::No(format!(
            "the store is damaged: {places} could not be read; each has a line with the object \"damage\"; everything else is exported. \
             Run stormhook check, and restore a backup if you need the missing data"
        )));
    }
    Ok(())
}

/// Finds the store; of one that a daemon has open, makes a copy.
async fn find(
    args: &ExportArgs,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(Place, Option<Output>), Failure> {
    if let Some(backup) = &args.from {
        return Ok((Place::File(backup.clone()), None));
    }
    let configured = args.places.load(surroundings.flag.as_deref());
    let is_elsewhere = locate::elsewhere(&args.places, surroundings)?.is_some();
    if !is_elsewhere && let Ok(Some(database)) = configured.map(|places| places.database) {
        return Ok((Place::Database(Box::new(database)), None));
    }
    match locate::find(&args.places, surroundings, screen).await? {
        Found::Stopped(folder) => Ok((Place::File(folder.join(STORE_FILE)), None)),
        Found::Daemon(_) if args.moves_to.is_some() => Err(Failure::No(
            "a daemon uses the store: stop it first, so that nothing is accepted or sent after the export"
                .to_owned(),
        )),
        Found::Daemon(client) => {
            let beside = args.output.clone();
            let unnamed = || std::env::temp_dir().join("stormhook-export");
            let copy = Output::unnamed(&beside.unwrap_or_else(unnamed))?;
            let progress = Copied::start();
            backup::from_daemon(&client, copy.writer()?, &progress).await?;
            Ok((Place::File(copy.path().to_owned()), Some(copy)))
        }
    }
}

/// Does what may take long on another thread, so that a signal ends it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::No("the command failed".to_owned())),
    }
}

/// Reports an export with secrets.
fn tell(moved_to: Option<&str>, counts: &[(String, u64)], screen: &Screen) {
    screen.remark(&format!("Exported {}", items_in_words(counts)));
    screen.remark("The export holds every secret in plain text: keep it as you keep them, and remove it when it is imported");
    if let Some(to) = moved_to {
        screen.remark(&format!(
            "The store is marked as moved to {}: no daemon starts on it. `stormhook reopen` takes that back",
            plain(to)
        ));
    }
}

/// Returns how many items there are of each kind, in words.
pub(crate) fn items_in_words(counts: &[(String, u64)]) -> String {
    let of = |kind: &str| {
        let found = counts.iter().find(|(name, _)| name == kind);
        found.map_or(0, |(_, count)| *count)
    };
    let parts = [
        counted(of("endpoint"), "endpoint", "endpoints"),
        counted(of("event"), "event", "events"),
        counted(of("delivery"), "delivery", "deliveries"),
        counted(of("key"), "idempotency key", "idempotency keys"),
    ];
    parts.join(", ")
}

fn in_words(written: Written) -> String {
    let parts = [
        counted(written.endpoints, "endpoint", "endpoints"),
        counted(written.events, "event", "events"),
        counted(written.deliveries, "delivery", "deliveries"),
        counted(written.attempts, "attempt", "attempts"),
    ];
    format!("Exported {}", parts.join(", "))
}

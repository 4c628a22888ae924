//! `stormhook export`: writes everything in the store as NDJSON, for analysis or migration.
//!
//! The export is always from one snapshot. Of a running daemon's store it makes a copy, as for a backup, and deletes it
//! afterwards, so that a long export costs the daemon nothing more. A stopped store, or a backup, is read in place.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use crate::backup::{self, Output};
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local::{self, Filter, PlaceFlags, STORE_FILE, Written};
use crate::locate::{self, Found};
use crate::options::SocketOption;
use crate::progress::Copied;
use crate::socket::Surroundings;
use crate::table::counted;
use crate::terminal::Screen;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook export --output stormhook.ndjson
  stormhook export --organization org_42 --since 7d | gzip > org_42.ndjson.gz
  stormhook export --from backup.redb | jq -c 'select(.status == \"ABANDONED\")'

One JSON object per line, in the API's format. Its \"object\" is endpoint, event
or delivery: first the endpoints, then each event with its data, oldest first,
each followed by its deliveries with their attempts. The last line has the
object end and the counts: without it the export is incomplete. Damaged data
has a line with the object damage, and makes the status 1. Secrets, header
values and waitingFor are left out.
A running daemon makes a complete copy first, in the directory of --output or
in $TMPDIR: for a few rows, use event list and delivery list.";

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
    #[command(flatten)]
    places: PlaceFlags,
}

pub(crate) async fn run(
    args: ExportArgs,
    daemon: SocketOption,
    screen: Screen,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(daemon.socket);
    tokio::select! {
        done = export(&args, &surroundings, &screen) => done,
        ended = backup::interrupted() => Err(ended),
    }
}

async fn export(
    args: &ExportArgs,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    let now = local::wall_clock();
    let (since, until) = input::span(args.since.as_ref(), args.until.as_ref(), now)?;
    let filter = Filter {
        organization: args.organization.clone(),
        event_type: args.event_type.clone(),
        since,
        until,
    };
    let output = args.output.as_deref().map(Output::beside).transpose()?;
    // Kept until the export has ended.
    let copy;
    let store = match &args.from {
        Some(backup) => backup.clone(),
        None => match locate::find(&args.places, surroundings, screen).await? {
            Found::Stopped(folder) => folder.join(STORE_FILE),
            Found::Daemon(client) => {
                let beside = args.output.clone();
                let unnamed = || std::env::temp_dir().join("stormhook-export");
                copy = Output::unnamed(&beside.unwrap_or_else(unnamed))?;
                let progress = Copied::start();
                backup::from_daemon(&client, copy.writer()?, &progress).await?;
                copy.path().to_owned()
            }
        },
    };
    let to: Box<dyn Write + Send> = match &output {
        Some(output) => Box::new(output.writer()?),
        None => Box::new(io::stdout()),
    };
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(64 << 10, to);
        local::write_records(&store, &filter, &mut out)
    });
    let written = match writing.await {
        Ok(written) => written?,
        Err(_) => return Err(Failure::No("the export failed".to_owned())),
    };
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

fn in_words(written: Written) -> String {
    let parts = [
        counted(written.endpoints, "endpoint", "endpoints"),
        counted(written.events, "event", "events"),
        counted(written.deliveries, "delivery", "deliveries"),
        counted(written.attempts, "attempt", "attempts"),
    ];
    format!("Exported {}", parts.join(", "))
}

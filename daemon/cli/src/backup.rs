//! `stormhook backup FILE`: copies the store of the running daemon, or a stopped store. To restore the copy, put it in
//! place of the store.
//!
//! The file gets its name only when the copy is complete, checked and on disk; if anything fails before, no file
//! remains.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::{Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{Client, empty};
use crate::failure::Failure;
use crate::local::{self, PlaceFlags, STORE_FILE};
use crate::locate::{self, Found};
use crate::options::DaemonOptions;
use crate::progress::Copied;
use crate::report::Report;
use crate::socket::Surroundings;
use crate::table::{counted, size_words};
use crate::terminal::{Screen, Tone, plain};
use stormhook_engine::clock::Moment;

/// The daemon makes the whole copy before it responds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How long the next bytes of the copy may take.
const BYTES_TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook backup /backup/stormhook-$(date +%F).redb
  stormhook backup --data-dir /var/lib/stormhook backup.redb

The running daemon makes the copy and keeps working; if no daemon answers, the
stopped store is copied, never written. To restore: stop the daemon, replace
stormhook.redb in its data directory with the file, start the daemon. The file
holds every secret and is created with mode 0600.";

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Output file; must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Don't check the copy
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    places: PlaceFlags,
}

pub(crate) async fn run(
    args: BackupArgs,
    daemon: DaemonOptions,
    screen: Screen,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(daemon);
    tokio::select! {
        done = back_up(&args, &surroundings, &screen) => done,
        ended = interrupted() => Err(ended),
    }
}

/// Resolves when the user or the system interrupts. The work in progress is then dropped, and its file with it.
pub(crate) async fn interrupted() -> Failure {
    let listening = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    match listening {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Failure::No("interrupted; nothing was written".to_owned())
        }
        // After that, signals end the process as usual.
        _ => std::future::pending().await,
    }
}

async fn back_up(
    args: &BackupArgs,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<(), Failure> {
    let began = Moment::now();
    let output = Output::beside(&args.file)?;
    let progress = Copied::start();
    match locate::find(&args.places, surroundings, screen).await? {
        Found::Daemon(client) => from_daemon(&client, output.writer()?, &progress).await?,
        Found::Stopped(folder) => from_stopped(folder, output.writer()?).await?,
    }
    let report = if args.unchecked {
        None
    } else {
        progress.checking();
        Some(look_through(output.path().to_owned()).await?)
    };
    progress.finish();
    let bytes = output.put_in_place(&args.file)?;
    tell(args, bytes, began.elapsed(), report.as_ref(), screen)
}

/// The file being written, under a temporary name in the same directory.
pub(crate) struct Output(NamedTempFile);

impl Output {
    /// Refuses an existing name before anything is done.
    pub(crate) fn beside(file: &Path) -> Result<Self, Failure> {
        if file.symlink_metadata().is_ok() {
            return Err(taken(file));
        }
        Self::unnamed(file)
    }

    /// Creates the file in the same directory, whether or not the name exists.
    pub(crate) fn unnamed(file: &Path) -> Result<Self, Failure> {
        let name = file.file_name().ok_or_else(|| {
            Failure::Usage(format!("{} is not the name of a file", file.display()))
        })?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".partial")
            .tempfile_in(folder_of(file))
            .map(Self)
            .map_err(|error| {
                Failure::local(&format!("create a file next to {}", file.display()), &error)
            })
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the same file for writing.
    pub(crate) fn writer(&self) -> Result<File, Failure> {
        let file = self.0.as_file().try_clone();
        file.map_err(|error| Failure::local("write the file", &error))
    }

    /// Gives the file its name once it is on disk, and returns its length.
    pub(crate) fn put_in_place(self, file: &Path) -> Result<u64, Failure> {
        let what = format!("write {}", file.display());
        let failed = |error| Failure::local(&what, &error);
        self.0.as_file().sync_all().map_err(failed)?;
        let kept = self.0.persist_noclobber(file).map_err(|unkept| {
            if unkept.error.kind() == std::io::ErrorKind::AlreadyExists {
                taken(file)
            } else {
                failed(unkept.error)
            }
        })?;
        File::open(folder_of(file))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        kept.metadata().map(|m| m.len()).map_err(failed)
    }
}

fn taken(file: &Path) -> Failure {
    Failure::Usage(format!(
        "{} exists already: name another file, or move this one away",
        file.display()
    ))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes the daemon's response to a file: all of it, or an error.
pub(crate) async fn from_daemon(
    client: &Client,
    file: File,
    progress: &Copied,
) -> Result<(), Failure> {
    let asked = client.open(Method::POST, "/v1/backup", None, empty());
    let response = tokio::time::timeout(ANSWER_TIMEOUT, asked)
        .await
        .map_err(|_| {
            Failure::Unreachable("the daemon didn't finish the copy within 4 h".to_owned())
        })??;
    let promised = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .ok_or_else(|| {
            Failure::No("the daemon didn't say how long the copy is: check that no other program answers there".to_owned())
        })?;
    progress.of(promised);
    let came = take(response.into_body(), file, progress).await?;
    if came != promised {
        return Err(cut(&format!("{came} of {promised} bytes arrived")));
    }
    Ok(())
}

fn cut(why: &str) -> Failure {
    Failure::Unreachable(format!(
        "the copy was interrupted ({why}); no backup was written. Check the daemon's log and retry"
    ))
}

async fn take(mut body: Incoming, mut file: File, progress: &Copied) -> Result<u64, Failure> {
    let mut came = 0;
    loop {
        let frame = tokio::time::timeout(BYTES_TIMEOUT, body.frame())
            .await
            .map_err(|_| cut("no data for 5 min"))?;
        let Some(frame) = frame else {
            return Ok(came);
        };
        let frame = frame.map_err(|error| cut(&error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data)
                .map_err(|error| Failure::local("write the copy", &error))?;
            came += u64::try_from(data.len()).unwrap_or(0);
            progress.show(came);
        }
    }
}

async fn from_stopped(folder: PathBuf, file: File) -> Result<(), Failure> {
    let copying = tokio::task::spawn_blocking(move || {
        local::copy_stopped(&folder.join(STORE_FILE), file, || true)
    });
    match copying.await {
        Ok(copied) => copied.map(drop),
        Err(_) => Err(Failure::No("the copy failed".to_owned())),
    }
}

/// Checks that the copy is an intact store: a truncated or damaged one is not a backup.
async fn look_through(copy: PathBuf) -> Result<Report, Failure> {
    let looking = tokio::task::spawn_blocking(move || local::check_stopped(&copy));
    let report = match looking.await {
        Ok(report) => report.map_err(Failure::Usage)?,
        Err(_) => Report::of_damage("it could not be checked".to_owned()),
    };
    match report.damage.first() {
        None => Ok(report),
        Some(first) => Err(Failure::No(format!(
            "the copy is damaged ({}); no backup was written. `stormhook check` shows whether the store is damaged; --unchecked keeps the copy anyway",
            plain(first)
        ))),
    }
}

fn tell(
    args: &BackupArgs,
    bytes: u64,
    took: Duration,
    report: Option<&Report>,
    screen: &Screen,
) -> Result<(), Failure> {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if screen.json {
        let said = json!({"file": args.file, "bytes": bytes, "durationMs": took_ms, "checked": report.is_some(),
            "rows": report.map(|r| r.rows), "events": report.map(|r| r.events),
            "deliveries": report.map(|r| r.deliveries)});
        return screen.line(&said.to_string());
    }
    let what = match report {
        Some(report) => format!(
            "checked: {}, {}",
            counted(report.events, "event", "events"),
            counted(report.deliveries, "delivery", "deliveries")
        ),
        None => "not checked".to_owned(),
    };
    screen.line(&format!(
        "{} {}: {} in {}.{} s, {what}",
        screen.paint(Tone::Good, "Backed up to"),
        args.file.display(),
        size_words(bytes),
        took_ms / 1_000,
        took_ms % 1_000 / 100,
    ))
}

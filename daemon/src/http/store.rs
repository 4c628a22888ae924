//! Backs up and checks the whole store. Each reads everything, so it runs for one caller at a time, apart from the
//! serving threads, and no commit waits for it.

use super::fields::query;
use super::openapi::responses::{CheckReport, StoreFile};
use super::problem::{self, Code, Problem};
use super::{Answer, NoFields, Shared, ask_long};
use crate::app::App;
use crate::space::free_bytes;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::json;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use stormhook_engine::times::rfc3339;
use stormhook_engine::writer::SubmitError;
use stormhook_store::{Copied, Reader, StoreError, UnixMs};
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::ReaderStream;

/// How much of a backup is read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// A backup leaves this much free beyond `limits.disk_reserve`, for what is committed before the next check of the free
/// space.
const ROOM_BYTES: u64 = 16 << 20;

static BACKUPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
static CHECKS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// Takes the only slot, which is held while the work runs.
fn place(of: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(of).try_acquire_owned().map_err(|_| {
        Problem::new(
            Code::Busy,
            format!("A {what} is already running. Retry when it has finished."),
        )
    })
}

/// Takes a backup.
///
/// Returns a consistent copy of the store as of the request, as one file. To restore it, put it in place of a stopped
/// daemon's `stormhook.redb`. The copy is made next to the store before the response begins and needs its own size in
/// free space; events accepted meanwhile are not in it. It contains every secret, encrypted if the store is. Only one backup runs at a time. A
/// response shorter than its `content-length` is incomplete: discard it.
#[utoipa::path(post, path = "/v1/backup", tag = "operations", operation_id = "backupStore", request_body = Option<NoFields>,
    responses((status = 200, description = "The file.", body = StoreFile, content_type = "application/octet-stream", headers(
        ("Content-Disposition" = String, description = "A file name that contains the time."),
        ("Content-Length" = u64, description = "The length of the file.")))))]
pub(super) async fn backup(
    State(app): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    NoFields::read(&headers, body).await?;
    let reader = app.reader().file().ok_or_else(|| {
        not_a_file("Back it up with the database's tools, such as pg_dump or continuous archiving.")
    })?;
    let place = place(&BACKUPS, "backup")?;
    let began = app.now();
    let (file, copied) = copy(&app, reader.clone()).await?;
    let bytes = copied.file_bytes;
    tracing::info!(bytes, rows = copied.rows, "backup made");
    Ok(sent(file, bytes, began, place))
}

/// Returns the copy, in a file without a name: when this process ends for any reason, nothing of it remains.
async fn copy(app: &Shared, reader: Reader) -> Result<(File, Copied), Problem> {
    let app = Arc::clone(app);
    let wanted = Wanted::default();
    let still = Arc::clone(&wanted.0);
    let making = tokio::task::spawn_blocking(move || {
        let config = app.config();
        let (folder, reserve) = (&config.data_dir, config.limits.disk_reserve);
        let mut file = tempfile::tempfile_in(folder).map_err(|error| unwritable(&error))?;
        let taken = file.try_clone().map_err(|error| unwritable(&error))?;
        let mut why = None;
        let copied = reader.copy_into(taken, || {
            why = stopped_by(&app, &still, folder, reserve);
            why.is_none()
        });
        match copied {
            Ok(Some(copied)) => {
                let rewound = file.seek(SeekFrom::Start(0));
                rewound.map_err(|error| unwritable(&error))?;
                Ok((file, copied))
            }
            Ok(None) => Err(why.unwrap_or_else(problem::unexpected)),
            Err(error) => Err(not_copied(&error)),
        }
    });
    making.await.unwrap_or_else(|_| Err(problem::unexpected()))
}

/// Records, when dropped, that the caller no longer waits.
struct Wanted(Arc<AtomicBool>);

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Returns why a copy must stop.
fn stopped_by(app: &App, wanted: &AtomicBool, folder: &Path, reserve: u64) -> Option<Problem> {
    if app.engine.life().is_stopping() || !wanted.load(Ordering::Relaxed) {
        return Some(Problem::new(
            Code::ShuttingDown,
            "The daemon is stopping; no backup was made. Retry once it is back, or copy the file while it is stopped.",
        ));
    }
    (free_bytes(folder) < reserve.saturating_add(ROOM_BYTES)).then(no_room)
}

/// The store is in a database, which has its own tools for this.
fn not_a_file(instead: &str) -> Problem {
    let detail = format!("The store is in a database, not in a file. {instead}");
    Problem::new(Code::NotSupported, detail)
}

fn no_room() -> Problem {
    Problem::new(
        Code::StorageFull,
        "Not enough space for a backup: the copy is made in the data directory and must leave limits.disk_reserve and 16 MiB free. \
         Free some space there, then retry.",
    )
}

fn unwritable(error: &std::io::Error) -> Problem {
    tracing::error!(%error, "backup could not be written");
    if error.kind() == std::io::ErrorKind::StorageFull {
        return no_room();
    }
    Problem::new(
        Code::StoreFailed,
        "The copy could not be written to the data directory; no backup was made. See the daemon's log.",
    )
}

fn not_copied(error: &StoreError) -> Problem {
    tracing::error!(%error, "backup failed");
    if error.is_disk_full() {
        return no_room();
    }
    Problem::unreadable(SubmitError::StoreFailed)
}

/// Returns the response. If it is cut off, it is shorter than its `content-length`.
fn sent(file: File, bytes: u64, began: UnixMs, place: OwnedSemaphorePermit) -> Response {
    let file = tokio::fs::File::from_std(file).take(bytes);
    let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES).map(move |chunk| {
        // The slot is held until the last chunk has been read.
        let _held = &place;
        chunk
    });
    let digits: String = rfc3339(began)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect();
    let name = format!("attachment; filename=\"stormhook-{digits}.redb\"");
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, bytes.into());
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    response
}

/// Verifies the store.
///
/// Checks every row's bytes and that related rows match. Reads the whole store, so a large one takes time. Commits
/// continue meanwhile; each table is checked as of the time when its turn comes. Only one check runs at a time.
#[utoipa::path(post, path = "/v1/check", tag = "operations", operation_id = "checkStore", request_body = Option<NoFields>,
    responses((status = 200, description = "The report, whether or not there is damage.", body = CheckReport)))]
pub(super) async fn check(
    State(app): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    NoFields::read(&headers, body).await?;
    let place = place(&CHECKS, "check")?;
    let (report, bytes) = ask_long(&app, move |reader| async move {
        // Held to the end, even if the caller no longer waits.
        let _held = place;
        reader.check().await
    })
    .await?;
    Ok(Json(json!({
        "ok": report.damage.is_empty(), "rows": report.rows, "events": report.events,
        "deliveries": report.deliveries, "damage": report.damage,
        "storedBytes": bytes.map(|b| b.stored), "metadataBytes": bytes.map(|b| b.metadata),
        "fragmentedBytes": bytes.map(|b| b.fragmented),
        "secretsKeyId": report.secrets.form.key().map(|id| id.to_string()),
    }))
    .into_response())
}

//! The Unix socket's file: created so that it is never more accessible than it should be, and removed only while it is
//! still the daemon's own.
//!
//! Two daemons that start at the same time, or one that stops while another starts, take turns by a lock on the
//! directory. Without the lock (another program may hold it) the file is still compared before it is removed.

use super::certificate::CertificateFileError;
use rustix::fs::FlockOperation;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// How often the directory's lock is tried, and the pause between tries. It is held for a few system calls.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why the daemon can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process serves the socket.
    #[error("{} is served by another process{}. Stop it, or set another socket", path.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Live {
        /// The socket.
        path: PathBuf,
        /// The other process, if the system reports it.
        pid: Option<i32>,
    },
    /// Something other than a socket exists at the path.
    #[error("{} exists and is not a socket. Move it away, or set another socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The certificate of the TCP listener.
    #[error(transparent)]
    Certificate(#[from] CertificateFileError),
    /// The TLS library rejected its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The system refused.
    #[error("{doing} {what}: {source}")]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// What it was applied to.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

/// A socket's file, removed with its listener.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Keeps the inode in use: while it is open no other file can have the same number.
    _listener: OwnedFd,
}

impl SocketFile {
    fn of(path: &Path, listener: &UnixListener) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
            _listener: listener.as_fd().try_clone_to_owned()?,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _turn = lock_folder_of(&self.path);
        // Another daemon may serve this path by now.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Locks the directory of this file until the lock is dropped.
fn lock_folder_of(path: &Path) -> Option<OwnedFd> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = OwnedFd::from(std::fs::File::open(folder).ok()?);
    for attempt in 0..LOCK_TRIES {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(_) if attempt + 1 < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(_) => break,
        }
    }
    None
}

/// Binds the socket. Replaces a socket file that nobody serves.
pub(super) async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    let failed = |doing| {
        move |source| ListenError::Io {
            doing,
            what: path.display().to_string(),
            source,
        }
    };
    let _turn = lock_folder_of(path);
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("looking at")(e)),
        Ok(found) => {
            if !found.file_type().is_socket() {
                return Err(ListenError::NotASocket {
                    path: path.to_owned(),
                });
            }
            // If a process accepts the connection, it is alive; otherwise the file is left over from a process that
            // died.
            match UnixStream::connect(path).await {
                Ok(stream) => {
                    let pid = stream.peer_cred().ok().and_then(|c| c.pid());
                    return Err(ListenError::Live {
                        path: path.to_owned(),
                        pid,
                    });
                }
                Err(_) => {
                    std::fs::remove_file(path).map_err(failed("removing the stale socket"))?;
                }
            }
        }
    }
    let open_to_group = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
            .map_err(failed("opening to its group"))
    };
    // Created under a temporary name and moved into place once its mode is right: it is never more accessible than it
    // should be, and is served as soon as it can be found.
    let making = path.with_extension(format!("{}.new", std::process::id()));
    let _left_over = std::fs::remove_file(&making);
    let listener = match UnixListener::bind(&making) {
        Ok(listener) => {
            open_to_group(&making)?;
            std::fs::rename(&making, path).map_err(failed("moving into place"))?;
            listener
        }
        // A path near the system's limit leaves no room for a longer name.
        Err(_) => {
            let listener = UnixListener::bind(path).map_err(failed("binding"))?;
            open_to_group(path)?;
            listener
        }
    };
    let file = SocketFile::of(path, &listener).map_err(failed("looking at"))?;
    Ok((listener, file))
}

//! The two listeners: binding them so that nobody else gets in between, accepting within bounds, ending in order.

use super::Front;
use super::callers::{Callers, Token};
use super::patience::Patient;
use crate::app::App;
use crate::config::Config;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The header block of a request (RFC 9112, 3): bytes and fields.
const HEADER_BYTES: usize = 16 << 10;
const HEADERS: usize = 100;
/// How long accepting pauses after the system refused, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to finish once the daemon stops.
const FINISH: Duration = Duration::from_secs(2);

/// Why the daemon can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process serves the socket.
    #[error("{} is served by another process{}: stop it, or give this one another socket", path.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Live {
        /// The socket.
        path: PathBuf,
        /// The other process, where the system says.
        pid: Option<i32>,
    },
    /// Something else lies where the socket should be.
    #[error("{} is there and is no socket: move it away, or give another socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{doing} {what}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Listeners that are bound and not served yet.
#[derive(Debug)]
pub struct Bound {
    unix: Option<(UnixListener, PathBuf)>,
    tcp: Option<(TcpListener, SocketAddr)>,
}

impl Bound {
    /// The TCP address, with the port that was picked.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address)| *address)
    }

    /// The Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, path)| path.as_path())
    }
}

/// Binds what the configuration asks for.
///
/// # Errors
/// [`ListenError`].
pub async fn bind(config: &Config) -> Result<Bound, ListenError> {
    let unix = match &config.socket {
        Some(path) => Some((bind_unix(path).await?, path.clone())),
        None => None,
    };
    let tcp = match config.listen {
        Some(address) => {
            let failed = |source| ListenError::Io {
                doing: "listening on",
                what: address.to_string(),
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            Some((listener, bound))
        }
        None => None,
    };
    Ok(Bound { unix, tcp })
}

async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |doing| {
        move |source| ListenError::Io {
            doing,
            what: path.display().to_string(),
            source,
        }
    };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("looking at")(e)),
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt;
            if !found.file_type().is_socket() {
                return Err(ListenError::NotASocket {
                    path: path.to_owned(),
                });
            }
            // Who answers is alive; a file that nobody serves is left over from a process that died.
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
    // Made under a name of our own and moved into place when its mode is right: at no time is it open to more than it should be,
    // and whoever finds it finds it served.
    let making = path.with_extension(format!("{}.new", std::process::id()));
    let _left_over = std::fs::remove_file(&making);
    let listener = match UnixListener::bind(&making) {
        Ok(listener) => listener,
        // A path near the system's limit leaves no room for another name.
        Err(_) => {
            let listener = UnixListener::bind(path).map_err(failed("binding"))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
                .map_err(failed("opening to its group"))?;
            return Ok(listener);
        }
    };
    std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o660))
        .map_err(failed("opening to its group"))?;
    std::fs::rename(&making, path).map_err(failed("moving into place"))?;
    Ok(listener)
}

/// Serves both listeners.
pub struct Listeners {
    tasks: JoinSet<()>,
    socket: Option<PathBuf>,
}

impl Listeners {
    /// Starts serving.
    ///
    /// # Errors
    /// The token can't be read or made.
    pub fn serve(bound: Bound, app: &Arc<App>) -> Result<Self, ListenError> {
        let config = app.config();
        let room = Arc::new(Semaphore::new(config.limits.connections));
        let mut tasks = JoinSet::new();
        let socket = bound.socket().map(Path::to_owned);
        if let Some((listener, _)) = bound.unix {
            let serving = Serving::new(app, Front::new(app, None), &room);
            tasks.spawn(accept_unix(
                listener,
                serving,
                config.socket_allow_uids.clone(),
            ));
        }
        if let Some((listener, address)) = bound.tcp {
            let token = Token::load(&config.data_dir).map_err(|source| ListenError::Io {
                doing: "reading or making the token in",
                what: config.data_dir.display().to_string(),
                source,
            })?;
            let callers = Callers::new(token, address);
            let serving = Serving::new(app, Front::new(app, Some(callers)), &room);
            tasks.spawn(accept_tcp(listener, serving));
        }
        Ok(Self { tasks, socket })
    }

    /// Waits until all connections have finished, once [`App::stop`] was called, for a bounded time. Removes the socket.
    pub async fn finish(mut self) {
        if let Some(socket) = self.socket.take() {
            let _gone = std::fs::remove_file(socket);
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _late = tokio::time::timeout(FINISH, all).await;
    }
}

/// What each connection needs.
#[derive(Clone)]
struct Serving {
    app: Arc<App>,
    front: Front,
    room: Arc<Semaphore>,
    idle: Duration,
}

impl Serving {
    fn new(app: &Arc<App>, front: Front, room: &Arc<Semaphore>) -> Self {
        Self {
            app: Arc::clone(app),
            front,
            room: Arc::clone(room),
            idle: app.config().limits.idle,
        }
    }

    /// Serves one connection to its end, or until the daemon stops and its request is answered.
    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let io = TokioIo::new(Patient::new(stream, self.idle));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .max_headers(HEADERS)
            .max_buf_size(HEADER_BYTES)
            .half_close(true)
            .serve_connection(io, self.front);
        tokio::pin!(connection);
        let stopping = self.app.stopping();
        tokio::select! {
            // Who broke off or sent no HTTP was answered as far as that goes.
            _over = connection.as_mut() => {}
            () = stopping => {
                connection.as_mut().graceful_shutdown();
                let _over = connection.await;
            }
        }
    }
}

async fn accept_unix(listener: UnixListener, serving: Serving, allowed: Vec<u32>) {
    let mut connections = JoinSet::new();
    let stopping = serving.app.stopping();
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&serving, || listener.accept()) => accepted,
        };
        let Some((permit, (stream, _))) = accepted else {
            continue;
        };
        let uid = stream.peer_cred().ok().map(|c| c.uid());
        if !allowed.is_empty() && !uid.is_some_and(|uid| allowed.contains(&uid)) {
            tracing::warn!(
                ?uid,
                "refused a connection: the user is not in socket_allow_uids"
            );
            continue;
        }
        let serving = serving.clone();
        connections.spawn(async move {
            serving.connection(stream).await;
            drop(permit);
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn accept_tcp(listener: TcpListener, serving: Serving) {
    let mut connections = JoinSet::new();
    let stopping = serving.app.stopping();
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&serving, || listener.accept()) => accepted,
        };
        let Some((permit, (stream, _))) = accepted else {
            continue;
        };
        let _slower = stream.set_nodelay(true);
        let serving = serving.clone();
        connections.spawn(async move {
            serving.connection(stream).await;
            drop(permit);
        });
    }
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is room for it. `None` where the system refused: after a pause it is asked again.
async fn accept<T, F: Future<Output = io::Result<T>>>(
    serving: &Serving,
    next: impl FnOnce() -> F,
) -> Option<(tokio::sync::OwnedSemaphorePermit, T)> {
    let permit = Arc::clone(&serving.room).acquire_owned().await.ok()?;
    match next().await {
        Ok(accepted) => Some((permit, accepted)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

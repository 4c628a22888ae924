//! The two listeners: binding them without races, accepting connections within bounds, stopping in order.

use super::callers::Callers;
use super::certificate::ListenerCertificate;
use super::connection::{Accepted, Serving};
use super::front::{Front, LateRouter};
#[cfg(feature = "postgres")]
use super::peer_listener::{self, PeerListener};
use super::secured::Secured;
use super::socket::{self, ListenError, SocketFile};
use super::tcp;
use crate::app::App;
use crate::config::{Config, LiveConfig};
use crate::descriptors::{self, REFUSALS};
use crate::token::Token;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::environment::{Environment, System};
use stormhook_engine::lifecycle::Lifecycle;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::TaskTracker;

/// How long a connection above `limits.connections` waits for a slot before it is refused. While there is none, further
/// connections are refused immediately.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// One in this many slots is reserved for the socket, if there is one.
const KEPT_FOR_THE_SOCKET: usize = 8;
/// How long accepting pauses after the system refused, for example with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to finish when the daemon stops.
const FINISH: Duration = Duration::from_secs(2);

/// Listeners that are bound but not served yet.
#[derive(Debug)]
pub struct Bound {
    unix: Option<(UnixListener, SocketFile)>,
    tcp: Option<(TcpListener, SocketAddr)>,
    tls: Option<(Secured, Arc<ListenerCertificate>)>,
}

impl Bound {
    /// Returns the TCP address, with the port that was picked.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address)| *address)
    }

    /// Returns how the TCP listener is reached.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Returns the certificate of the TCP listener, if it speaks TLS.
    pub(crate) fn certificate(&self) -> Option<Arc<ListenerCertificate>> {
        self.tls
            .as_ref()
            .map(|(_, certificate)| Arc::clone(certificate))
    }

    /// Returns the Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, file)| file.path())
    }
}

/// Binds the listeners of the configuration.
///
/// # Errors
/// [`ListenError`].
pub async fn bind(config: &Config) -> Result<Bound, ListenError> {
    let tls = tls(config)?;
    let tcp = match config.listen {
        Some(address) => Some(tcp::bind(address, "listening on").await?),
        None => None,
    };
    let unix = match &config.socket {
        Some(path) => Some(socket::bind(path).await?),
        None => None,
    };
    Ok(Bound { unix, tcp, tls })
}

/// Returns the TLS of the TCP listener, if there is to be any.
fn tls(config: &Config) -> Result<Option<(Secured, Arc<ListenerCertificate>)>, ListenError> {
    let (Some(_), Some(certificate), Some(key)) =
        (config.listen, &config.tls.certificate, &config.tls.key)
    else {
        return Ok(None);
    };
    let read = ListenerCertificate::read(certificate, key, System.wall())?;
    let certificate = Arc::new(read);
    let secured = Secured::new(Arc::clone(&certificate), config.limits.idle)?;
    Ok(Some((secured, certificate)))
}

/// Serves both listeners.
pub struct Listeners {
    tasks: JoinSet<()>,
    late_router: LateRouter,
    socket: Option<SocketFile>,
}

impl Listeners {
    /// Starts serving. Until [`Listeners::open`], callers are told that the daemon is starting. Without a token nobody is
    /// served over TCP.
    pub(crate) fn serve(
        bound: Bound,
        token: Option<Arc<Token>>,
        live: &LiveConfig,
        life: &Arc<Lifecycle>,
    ) -> Self {
        let config = live.now();
        let places = descriptors::connections(&config);
        let room = Arc::new(Semaphore::new(places));
        // Connections over TCP can't take all slots: local producers always find one.
        let kept = bound
            .unix
            .as_ref()
            .map_or(0, |_| places / KEPT_FOR_THE_SOCKET);
        let tcp_room = Arc::new(Semaphore::new(places - kept));
        let mut tasks = JoinSet::new();
        let late_router = LateRouter::default();
        let serving = |callers, secured, own: &Arc<Semaphore>| Serving {
            front: Front::new(&late_router, live, life, callers),
            own: Arc::clone(own),
            room: Arc::clone(&room),
            idle: config.limits.idle,
            secured,
        };
        let secured = bound.tls.map(|(secured, _)| secured);
        if let (Some((listener, address)), Some(token)) = (bound.tcp, &token) {
            let callers = Callers::new(Some(Arc::clone(token)), Some(address));
            tasks.spawn(accept_tcp(listener, serving(callers, secured, &tcp_room)));
        }
        let mut socket = None;
        if let Some((listener, file)) = bound.unix {
            let allowed = config.socket_allow_uids.clone();
            let room_of_socket = Arc::new(Semaphore::new(places));
            tasks.spawn(accept_unix(
                listener,
                serving(Callers::new(token, None), None, &room_of_socket),
                allowed,
            ));
            socket = Some(file);
        }
        Self {
            tasks,
            late_router,
            socket,
        }
    }

    /// Serves other daemons on the same database, which show this token.
    #[cfg(feature = "postgres")]
    pub(crate) fn serve_peers(
        &mut self,
        bound: PeerListener,
        token: http::HeaderValue,
        live: &LiveConfig,
        life: &Arc<Lifecycle>,
    ) {
        let nobody = Callers::new(None, None);
        let front = Front::new(&self.late_router, live, life, nobody).for_peers(token);
        self.tasks.spawn(peer_listener::accept(bound, front));
    }

    /// The daemon has started: requests reach their routes.
    pub fn open(&self, app: &Arc<App>) {
        self.late_router.open(app);
    }

    /// Waits until all connections have finished, within the phase for that and a time limit. Removes the socket.
    pub async fn finish(mut self) {
        drop(self.socket.take());
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _late = tokio::time::timeout(FINISH, all).await;
    }
}

async fn accept_unix(listener: UnixListener, serving: Serving, allowed: Vec<u32>) {
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        Ok(Accepted::Unix(stream))
    };
    let admits = |stream: &UnixStream| {
        let uid = stream.peer_cred().ok().map(|c| c.uid());
        let known = allowed.is_empty() || uid.is_some_and(|uid| allowed.contains(&uid));
        if !known {
            tracing::warn!(
                ?uid,
                "refused a connection: the user is not in socket_allow_uids"
            );
        }
        known
    };
    accept_all(serving, accept, |accepted| match accepted {
        Accepted::Unix(stream) => admits(stream),
        Accepted::Tcp(..) => false,
    })
    .await;
}

async fn accept_tcp(listener: TcpListener, serving: Serving) {
    let accept = || async {
        let (stream, from) = listener.accept().await?;
        let _slower = stream.set_nodelay(true);
        Ok(Accepted::Tcp(stream, from))
    };
    accept_all(serving, accept, |_| true).await;
}

/// Connections that are being refused, oldest first. A new one beyond the bound ends the oldest: a client that sent a
/// request has its response by then, and a silent client must not block the next one.
#[derive(Default)]
struct Refusals(VecDeque<AbortHandle>);

impl Refusals {
    fn push(&mut self, refusal: AbortHandle) {
        self.0.retain(|refusal| !refusal.is_finished());
        if self.0.len() >= REFUSALS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(refusal);
    }
}

/// Accepts connections until they should finish, and serves as many in parallel as there are slots. The next connection
/// waits briefly and is then refused.
async fn accept_all<F>(
    serving: Serving,
    mut accept: impl FnMut() -> F,
    admit: impl Fn(&Accepted) -> bool,
) where
    F: Future<Output = io::Result<Accepted>>,
{
    let connections = TaskTracker::new();
    let mut refusals = Refusals::default();
    let mut failures = 0_u64;
    let closing = serving.front.closing();
    tokio::pin!(closing);
    let mut wait = PLACE_WAIT;
    loop {
        let next = async {
            let stream = accept().await?;
            // Accept first: when the last slot is taken, the next connection waits here without one.
            let place = tokio::time::timeout(wait, serving.place()).await;
            Ok((stream, place.ok().flatten()))
        };
        let accepted: io::Result<_> = tokio::select! {
            () = &mut closing => break,
            accepted = next => accepted,
        };
        if accepted.is_ok() && failures > 0 {
            tracing::info!(failures, "accepting connections again");
            failures = 0;
        }
        match accepted {
            Ok((stream, _)) if !admit(&stream) => {}
            Ok((stream, Some(place))) => {
                wait = PLACE_WAIT;
                let serving = serving.clone();
                connections.spawn(async move {
                    serving.connection(stream).await;
                    drop(place);
                });
            }
            Ok((stream, None)) => {
                wait = Duration::ZERO;
                let refusal = connections.spawn(serving.clone().refuse(stream));
                refusals.push(refusal.abort_handle());
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "can't accept connections; retrying");
                }
                failures += 1;
                // Retrying immediately would be refused again: don't use a whole core for that.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

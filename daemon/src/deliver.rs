//! One attempt over HTTP: sends a request and returns the result as a [`Reply`].
//!
//! It never interprets the reply, retries, follows a redirect or decodes a body. The target guard checks every
//! connection, by the same addresses that it then connects to. Proxy variables in the environment are ignored; a proxy is
//! set in the configuration.

mod connect;
mod destination;
mod dial;
mod exchange;
mod fault;
mod framing;
mod handshakes;
mod head;
mod http1;
mod manners;
mod names;
mod pool;
mod proxy;
mod secured;
mod server_certificates;
mod statuses;
mod streams;
#[cfg(test)]
mod tests;
mod tls_words;
mod transport;
mod trust;

pub use destination::Target;
pub use proxy::CredentialsError;
pub use server_certificates::ServerCertificates;
pub use transport::HttpTransport;
pub use trust::{TrustError, client_config as trusting};

use crate::config::Config;
use crate::descriptors;
use crate::target::{ProxyUrl, TargetPolicy};
use connect::Connector;
use exchange::{Again, Order, Outcome};
use pool::{Connection, Pool};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::clock;
use stormhook_engine::outcome::{Failure, Reply};
use stormhook_engine::transport::{AttemptRequest, Attempted};
use tokio::time::{sleep_until, timeout_at};

/// The maximum size of a response's headers.
const MAX_RESPONSE_HEADER_BYTES: usize = 64 * 1024;
/// How many times one attempt may send its request again.
const MAX_RESENDS: u32 = 3;
/// The first pause after a receiver refused a request because it has too many; each further pause is this much longer.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// How attempts are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The limit for the whole attempt, up to the status line.
    pub timeout: Duration,
    /// The limit for look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept; zero keeps none.
    pub pool_idle: Duration,
    /// The maximum age of a connection that is reused.
    pub pool_max_age: Duration,
    /// How many idle connections are kept, for all receivers together.
    pub pool_connections: usize,
    /// How much of a response body is read.
    pub response_bytes: usize,
    /// Where deliveries may go.
    pub policy: TargetPolicy,
    /// Name servers to use instead of the system's.
    pub name_servers: Vec<SocketAddr>,
    /// PEM files of certificates to trust in addition to the system's.
    pub extra_roots: Vec<PathBuf>,
    /// The proxy that all deliveries go through.
    pub proxy: Option<ProxyUrl>,
    /// A file with the proxy's credentials.
    pub proxy_credentials_file: Option<PathBuf>,
}

/// Why attempts can't be made with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file of certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file of credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Settings {
    /// Returns the settings of a configuration. `own_listener` is the TCP address that the daemon itself is bound to.
    pub fn from_config(config: &Config, own_listener: Option<SocketAddr>) -> Self {
        Self {
            timeout: config.delivery.timeout,
            connect_timeout: config.delivery.connect_timeout,
            pool_idle: config.delivery.pool_idle,
            pool_max_age: config.delivery.pool_max_age,
            pool_connections: descriptors::idle_to_partners(config),
            response_bytes: config.limits.response_bytes,
            policy: TargetPolicy {
                own_listener,
                ..config.target.clone()
            },
            name_servers: config.dns.servers.clone(),
            extra_roots: config.tls.extra_roots.clone(),
            proxy: config.proxy.url.clone(),
            proxy_credentials_file: config.proxy.credentials_file.clone(),
        }
    }
}

/// Sends attempts and keeps their connections for later ones. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    timeout: Duration,
    response_bytes: usize,
    connector: Connector,
    pool: Arc<Pool>,
}

/// Why there is no connection.
type Failed = (Failure, String);

/// Why there is no connection, by whose fault it is.
enum Unconnected {
    Failed(Failed),
    /// This machine lacked something.
    OurTrouble(String),
}

impl From<Failed> for Unconnected {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl Client {
    /// Returns a client without connections. Reads the certificates to trust, and the proxy's credentials.
    ///
    /// # Errors
    /// [`SetupError`] if one of these files can't be read.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Self::noting(settings, Arc::default())
    }

    /// The same for a client that notes the certificates of servers there.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn noting(
        settings: &Settings,
        certificates: Arc<ServerCertificates>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            inner: Arc::new(Inner {
                timeout: settings.timeout,
                response_bytes: settings.response_bytes,
                connector: Connector::new(settings, certificates)?,
                pool: Pool::new(
                    settings.pool_idle,
                    settings.pool_max_age,
                    settings.pool_connections,
                ),
            }),
        })
    }

    /// Makes one attempt. Dropping the future closes its connection.
    pub async fn attempt(&self, target: &Target, request: AttemptRequest<'_>) -> Attempted {
        let inner = &*self.inner;
        let order = Order {
            target,
            headers: &request.headers,
            body: &request.body,
            still_wanted: request.still_wanted,
            timeout: inner.timeout,
            deadline: clock::deadline(inner.timeout),
            response_bytes: inner.response_bytes,
            excerpt_bytes: request.excerpt_bytes,
        };
        inner.send(&order).await
    }
}

impl Inner {
    /// Sends over an idle connection or, if there is none, over a new one; and again if that is allowed. A request that
    /// may have been processed in part is not sent again.
    async fn send(&self, order: &Order<'_>) -> Attempted {
        let mut resends = 0;
        let mut needs_fresh = false;
        loop {
            let reconnected = resends > 0;
            let connection = match self.connection(order, needs_fresh).await {
                Ok(connection) => connection,
                Err(reply) => return Attempted::Reply { reply, reconnected },
            };
            let reused = connection.reused;
            let (again, reply) = match exchange::send(connection, order).await {
                Outcome::Again(again, reply) => (again, reply),
                Outcome::Reply(reply) => return Attempted::Reply { reply, reconnected },
                Outcome::NotWanted => return Attempted::NotSent,
                Outcome::Unwritten if reused => continue,
                Outcome::Unwritten => {
                    let reply = closed_at_once(order);
                    return Attempted::Reply { reply, reconnected };
                }
            };
            if resends == MAX_RESENDS || !(order.still_wanted)() {
                return Attempted::Reply { reply, reconnected };
            }
            resends += 1;
            needs_fresh |= again == Again::Ended;
            if again == Again::Refused {
                let pause = clock::deadline(REFUSED_PAUSE * resends);
                sleep_until(pause.min(order.deadline)).await;
            }
        }
    }

    async fn connection(&self, order: &Order<'_>, fresh: bool) -> Result<Connection, Reply> {
        let key = order.target.pool_key();
        if !fresh && let Some(connection) = self.pool.take(key) {
            return Ok(connection);
        }
        let http1_only = self.pool.needs_http1(key);
        // Boxed: it is several times larger than the rest of an attempt, and most attempts find a connection.
        let opening = Box::pin(self.connector.open(order.target, http1_only));
        match timeout_at(order.deadline, opening).await {
            Ok(Ok(opened)) => Ok(self.pool.adopt(opened, key)),
            Ok(Err(Unconnected::Failed((failure, why)))) => Err(Reply::Failed(failure, why)),
            Ok(Err(Unconnected::OurTrouble(what))) => Err(Reply::OurTrouble(what)),
            Err(_) => Err(order.timed_out()),
        }
    }
}

fn closed_at_once(order: &Order<'_>) -> Reply {
    let why = format!(
        "{} closed the connection before the request",
        order.target.origin()
    );
    Reply::Failed(Failure::Connect, why)
}

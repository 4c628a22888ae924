//! One attempt over HTTP: a request goes out, and what came of it comes back as a [`Reply`].
//!
//! It never decides what the reply means, never retries, never follows a redirect and never decodes a body. The target guard is
//! asked at every connection, about the very addresses that are then connected to. Proxy variables of the environment are
//! not read.

mod connect;
mod destination;
mod dial;
mod exchange;
mod fault;
mod line;
mod names;
mod pool;
mod secured;
#[cfg(test)]
mod tests;
mod tls_words;
mod trust;

pub use destination::Target;
pub use trust::TrustError;

use crate::clock;
use crate::config::Config;
use crate::outcome::{Failure, Reply};
use crate::target::TargetPolicy;
use bytes::Bytes;
use connect::Connector;
use exchange::{Draft, Sent};
use http::HeaderMap;
use pool::Pool;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout_at;

/// The most that the headers of an answer may take up, as they are written in HTTP/1.1.
pub const MAX_RESPONSE_HEADER_BYTES: usize = 64 * 1024;
/// The most header lines of an answer.
const MAX_RESPONSE_HEADERS: usize = 512;

/// How attempts are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For the whole attempt, up to the status line.
    pub timeout: Duration,
    /// For look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept; zero keeps none.
    pub pool_idle: Duration,
    /// How old a connection may be to be used again.
    pub pool_max_age: Duration,
    /// How many idle connections are kept, to all partners together.
    pub pool_connections: usize,
    /// How much of an answer's body is read.
    pub response_bytes: usize,
    /// How much of a failure's body is kept.
    pub excerpt_bytes: usize,
    /// Where deliveries may go.
    pub policy: TargetPolicy,
    /// Name servers to ask instead of the system's.
    pub name_servers: Vec<SocketAddr>,
    /// PEM files of certificates to trust beside the system's.
    pub extra_roots: Vec<PathBuf>,
}

impl Settings {
    /// What the configuration says. `own_listener` is the TCP address that the daemon itself is bound to.
    pub fn from_config(config: &Config, own_listener: Option<SocketAddr>) -> Self {
        Self {
            timeout: config.delivery.timeout,
            connect_timeout: config.delivery.connect_timeout,
            pool_idle: config.delivery.pool_idle,
            pool_max_age: config.delivery.pool_max_age,
            pool_connections: config.delivery.max_in_flight,
            response_bytes: config.limits.response_bytes,
            excerpt_bytes: config.limits.excerpt_bytes,
            policy: TargetPolicy {
                own_listener,
                ..config.target.clone()
            },
            name_servers: config.dns.servers.clone(),
            extra_roots: config.tls.extra_roots.clone(),
        }
    }
}

/// What an attempt sends.
pub struct AttemptRequest<'a> {
    /// Where to.
    pub target: &'a Target,
    /// Every header but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Asked right before the first byte is written: whether it is still to be sent.
    pub still_wanted: &'a (dyn Fn() -> bool + Send + Sync),
}

/// What came of asking for an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempted {
    /// This.
    Reply(Reply),
    /// It was not wanted any more once there was a connection: nothing was sent.
    NotSent,
}

/// Sends attempts, over connections that it keeps for the next ones. Clones share them.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    timeout: Duration,
    response_bytes: usize,
    excerpt_bytes: usize,
    connector: Connector,
    pool: Arc<Pool>,
}

/// Why no status line came.
type Failed = (Failure, String);

/// Why nothing came back.
enum Unanswered {
    Failed(Failed),
    /// What this machine lacked.
    OurTrouble(String),
    NotWanted,
}

impl From<Failed> for Unanswered {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl Client {
    /// A client without connections. Reads the certificates to trust.
    ///
    /// # Errors
    /// [`TrustError`], if one of `extra_roots` can't be read.
    pub fn new(settings: &Settings) -> Result<Self, TrustError> {
        let tls = trust::client_config(&settings.extra_roots)?;
        Ok(Self {
            inner: Arc::new(Inner {
                timeout: settings.timeout,
                response_bytes: settings.response_bytes,
                excerpt_bytes: settings.excerpt_bytes,
                connector: Connector::new(settings, tls),
                pool: Pool::new(
                    settings.pool_idle,
                    settings.pool_max_age,
                    settings.pool_connections,
                ),
            }),
        })
    }

    /// Makes one attempt. Dropping the future closes its connection.
    pub async fn attempt(&self, request: AttemptRequest<'_>) -> Attempted {
        let inner = &*self.inner;
        #[cfg(feature = "simulation")]
        if let Some(partners) = crate::simulation::partners() {
            return partners.attempt(request, inner.timeout).await;
        }
        let deadline = clock::deadline(inner.timeout);
        let target = request.target;
        let draft = Draft::new(request.headers, request.body);
        let sending = inner.send(target, draft, request.still_wanted);
        let reply = match timeout_at(deadline, sending).await {
            Ok(Ok(sent)) => {
                sent.read(deadline, inner.response_bytes, inner.excerpt_bytes)
                    .await
            }
            Ok(Err(Unanswered::Failed((failure, why)))) => Reply::Failed(failure, why),
            Ok(Err(Unanswered::OurTrouble(what))) => Reply::OurTrouble(what),
            Ok(Err(Unanswered::NotWanted)) => return Attempted::NotSent,
            Err(_) => {
                let why = format!(
                    "{} gave no answer within {:?}",
                    target.origin(),
                    inner.timeout
                );
                Reply::Failed(Failure::Timeout, why)
            }
        };
        Attempted::Reply(reply)
    }
}

impl Inner {
    /// Sends over a connection that is idle or, where there is none, over a new one. A request of which anything may have been
    /// written is not sent again.
    async fn send(
        &self,
        target: &Target,
        mut draft: Draft,
        still_wanted: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Sent, Unanswered> {
        while let Some(connection) = self.pool.take(target.origin()) {
            match exchange::send(connection, target, draft, still_wanted).await? {
                Ok(sent) => return Ok(sent),
                Err(unsent) => draft = unsent,
            }
        }
        // Apart, since it is several times larger than the rest of an attempt, and most attempts find a connection.
        let opened = Box::pin(self.connector.open(target)).await?;
        let connection = self.pool.adopt(opened, target.origin());
        let closed = || {
            let why = format!(
                "{} closed the connection before the request",
                target.origin()
            );
            (Failure::Connect, why)
        };
        exchange::send(connection, target, draft, still_wanted)
            .await?
            .map_err(|_| closed().into())
    }
}

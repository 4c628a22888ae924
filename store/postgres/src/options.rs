//! Where the database is, and the limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::Keys;
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

/// A stream to the database.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens streams to the database, in place of the network.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Box<dyn Stream> + Send + Sync>);

impl Dial {
    /// Returns what opens streams with `dial`.
    pub fn new(dial: impl Fn() -> Box<dyn Stream> + Send + Sync + 'static) -> Self {
        Self(Arc::new(dial))
    }

    pub(crate) fn dial(&self) -> Box<dyn Stream> {
        (self.0)()
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// Where the database is, and the limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database, as `postgres://user@host/database` or in the form of libpq's key words.
    pub url: String,
    /// What opens the connections; `None`: the network.
    pub dial: Option<Dial>,
    /// The schema that holds the tables.
    pub schema: String,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// Identifies the daemon's data directory. Two processes with the same one must not run at the same time.
    pub daemon: Uuid,
    /// The version of the program, for others to see.
    pub version: String,
    /// Where other daemons reach this one.
    pub address: Option<String>,
    /// The certificate that it shows there.
    pub certificate: Option<Vec<u8>>,
    /// For how long the daemon keeps its shards without a sign of life.
    pub lease: Duration,
    /// How long an attempt may take.
    pub attempt_timeout: Duration,
    /// Maximum number of open deliveries.
    pub pending_limit: u64,
    /// Maximum number of endpoints of one organization, without deleted ones.
    pub endpoints_per_organization: usize,
    /// How long an idempotency key is remembered, in milliseconds.
    pub idempotency_ttl_ms: u64,
    /// The keys of the secrets.
    pub keys: Arc<Keys>,
}

impl Options {
    /// Returns options without limits.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            dial: None,
            schema: "stormhook".to_owned(),
            statement_timeout: Duration::from_secs(30),
            daemon: Uuid::nil(),
            version: String::new(),
            address: None,
            certificate: None,
            lease: Duration::from_secs(8),
            attempt_timeout: Duration::from_secs(15),
            pending_limit: u64::MAX,
            endpoints_per_organization: usize::MAX,
            idempotency_ttl_ms: 24 * 3_600_000,
            keys: Arc::default(),
        }
    }
}

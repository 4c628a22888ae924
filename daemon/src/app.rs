//! What the HTTP front end works with: the engine, the configuration, and what new endpoints are made of.

use crate::api_keys_used::ApiKeysUsed;
use crate::certificates::Validity;
use crate::config::{Config, LiveConfig};
use crate::deliver::ServerCertificates;
#[cfg(feature = "postgres")]
use crate::peers::Peers;
use crate::target::{TargetError, TargetPolicy, TargetUrl};
use crate::token::Token;
use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::sync::atomic::{AtomicI64, AtomicU64};
use stormhook_engine::{Engine, Reader, SubmitError};
use stormhook_store::endpoint::Seed;
use stormhook_store::{ApiKey, StoreError, UnixMs};
use stormhook_verifier::Secret;
use zeroize::Zeroizing;

/// See the module.
#[derive(Debug)]
pub struct App {
    /// The engine.
    pub engine: Engine,
    config: LiveConfig,
    own_listener: Option<SocketAddr>,
    used: ApiKeysUsed,
    server_certificates: Arc<ServerCertificates>,
    token: Option<Arc<Token>>,
    #[cfg(feature = "postgres")]
    peers: Option<Arc<Peers>>,
    #[cfg(feature = "postgres")]
    outbox: Arc<OutboxCounts>,
}

/// What was taken from outboxes since the daemon started, for `/metrics`.
#[cfg(feature = "postgres")]
#[derive(Debug, Default)]
pub(crate) struct OutboxCounts {
    /// Events that were accepted, now or before.
    pub(crate) accepted: AtomicU64,
    /// Events that were rejected.
    pub(crate) rejected: AtomicU64,
    /// The age of the oldest event at the last look, in milliseconds.
    pub(crate) oldest_ms: AtomicI64,
}

/// The randomness of the operating system could not be had.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system gave no randomness for a secret; try again")]
pub struct NoRandomness;

impl App {
    /// A front end for an engine. `own_listener` is refused as a target. `server_certificates` are those that deliveries
    /// have seen.
    pub fn new(
        engine: Engine,
        config: LiveConfig,
        own_listener: Option<SocketAddr>,
        server_certificates: Arc<ServerCertificates>,
    ) -> Self {
        Self {
            engine,
            config,
            own_listener,
            used: ApiKeysUsed::default(),
            server_certificates,
            token: None,
            #[cfg(feature = "postgres")]
            peers: None,
            #[cfg(feature = "postgres")]
            outbox: Arc::default(),
        }
    }

    /// The same with the token of callers over TCP.
    #[must_use]
    pub(crate) fn with_token(mut self, token: Option<Arc<Token>>) -> Self {
        self.token = token;
        self
    }

    /// The token of callers over TCP, if there are any.
    pub(crate) fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }

    /// The same among other daemons on a database.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub(crate) fn among(mut self, peers: Option<Arc<Peers>>) -> Self {
        self.peers = peers;
        self
    }

    /// The other daemons, if the store is in a database.
    #[cfg(feature = "postgres")]
    pub(crate) fn peers(&self) -> Option<&Arc<Peers>> {
        self.peers.as_ref()
    }

    /// What was taken from outboxes.
    #[cfg(feature = "postgres")]
    pub(crate) fn outbox(&self) -> &Arc<OutboxCounts> {
        &self.outbox
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        self.config.now()
    }

    /// The store's time.
    pub fn now(&self) -> UnixMs {
        self.engine.clock().now()
    }

    /// The time of the wall clock.
    pub fn wall(&self) -> UnixMs {
        self.engine.clock().environment().wall()
    }

    /// The time that what expires goes by.
    pub fn paced(&self) -> UnixMs {
        self.engine.clock().paced()
    }

    /// Returns what answers questions.
    pub fn reader(&self) -> &Reader {
        self.engine.reader()
    }

    /// Returns the answer to a question.
    ///
    /// # Errors
    /// The store can't be read, or what was read is damaged; the log says more.
    pub fn answered<T>(&self, answer: Result<T, StoreError>) -> Result<T, SubmitError> {
        answer.map_err(|error| {
            tracing::error!(%error, "a read of the store failed");
            if error.is_damage() {
                SubmitError::Damaged
            } else if error.is_unreachable() {
                SubmitError::Unreachable
            } else {
                SubmitError::StoreFailed
            }
        })
    }

    /// The policy of targets as it is now.
    pub fn target_policy(&self) -> TargetPolicy {
        TargetPolicy {
            own_listener: self.own_listener,
            ..self.config().target.clone()
        }
    }

    /// The normal form of a URL that deliveries may go to.
    ///
    /// # Errors
    /// It is not a URL, or policy forbids it.
    pub fn judge_url(&self, raw: &str) -> Result<String, TargetError> {
        TargetUrl::parse(raw, &self.target_policy()).map(|url| url.as_str().to_owned())
    }

    /// Notes that an API key was used.
    pub(crate) fn api_key_used(&self, key: &ApiKey) {
        self.used.note(key, self.now());
    }

    /// Writes from time to time which API keys were used. Never ends.
    pub(crate) async fn write_api_keys_used(self: Arc<Self>) {
        loop {
            let used = self.used.taken().await;
            if !used.is_empty() {
                self.engine.api_keys_used(used);
            }
        }
    }

    /// Returns how long the certificate of the server at this URL is valid, if a delivery has seen it.
    pub(crate) fn server_certificate(&self, url: &str) -> Option<Validity> {
        let url = TargetUrl::parse(url, &self.target_policy()).ok()?;
        self.server_certificates.of(&url.origin())
    }

    /// A fresh secret of 32 random bytes.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new_secret(&self) -> Result<Secret, NoRandomness> {
        Ok(Secret::from_random(&*random_32()?))
    }

    /// A fresh seed of an ed25519 key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new_seed(&self) -> Result<Seed, NoRandomness> {
        Ok(Seed::from_random(&*random_32()?))
    }
}

/// 32 bytes from the operating system's generator.
pub(crate) fn random_32() -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

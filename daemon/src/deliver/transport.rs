//! HTTP as the engine's transport: one client and one target policy for each configuration.

use super::{Client, ServerCertificates, Settings, SetupError, Target};
use crate::config::Config;
use crate::target::TargetPolicy;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use stormhook_engine::transport::{AttemptRequest, Attempting, Destination, Transport};
use stormhook_store::endpoint;

/// See the module.
pub struct HttpTransport {
    /// The TCP address that the daemon itself is bound to.
    own_listener: Option<SocketAddr>,
    certificates: Arc<ServerCertificates>,
    current: RwLock<Current>,
}

struct Current {
    client: Client,
    policy: TargetPolicy,
}

/// One endpoint's URL, and the client to reach it with.
struct HttpDestination {
    client: Client,
    target: Target,
}

impl std::fmt::Debug for HttpDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.target.fmt(f)
    }
}

impl Current {
    fn new(
        config: &Config,
        own_listener: Option<SocketAddr>,
        certificates: &Arc<ServerCertificates>,
    ) -> Result<Self, SetupError> {
        let settings = Settings::from_config(config, own_listener);
        Ok(Self {
            client: Client::noting(&settings, certificates.clone())?,
            policy: settings.policy,
        })
    }
}

impl HttpTransport {
    /// Returns a transport without connections. `own_listener` is refused as a target.
    ///
    /// # Errors
    /// A file of certificates to trust, or of credentials, can't be read.
    pub fn new(config: &Config, own_listener: Option<SocketAddr>) -> Result<Self, SetupError> {
        let certificates = Arc::default();
        let current = Current::new(config, own_listener, &certificates)?;
        Ok(Self {
            own_listener,
            certificates,
            current: RwLock::new(current),
        })
    }

    /// Returns the certificates of servers that deliveries have seen.
    pub fn server_certificates(&self) -> Arc<ServerCertificates> {
        self.certificates.clone()
    }

    /// Applies another configuration, to destinations that are prepared from now on.
    ///
    /// # Errors
    /// A file of certificates to trust, or of credentials, can't be read. Nothing changed then.
    pub fn reconfigure(&self, config: &Config) -> Result<(), SetupError> {
        let new = Current::new(config, self.own_listener, &self.certificates)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl Transport for HttpTransport {
    fn destination(&self, endpoint: &endpoint::Settings) -> Result<Arc<dyn Destination>, String> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let target = Target::of(endpoint, &current.policy).map_err(|e| e.to_string())?;
        let client = current.client.clone();
        Ok(Arc::new(HttpDestination { client, target }))
    }
}

impl Destination for HttpDestination {
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a> {
        Box::pin(self.client.attempt(&self.target, request))
    }
}

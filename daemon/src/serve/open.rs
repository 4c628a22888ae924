//! Opens the store, and what belongs to it: a file in the data directory, or a database with other daemons.

use super::{STORE_FILE, ServeError};
#[cfg(feature = "postgres")]
use crate::app::App;
use crate::config::Config;
#[cfg(feature = "postgres")]
use crate::config::{self, LiveConfig};
#[cfg(feature = "postgres")]
use crate::http::peer_listener::PeerListener;
#[cfg(feature = "postgres")]
use crate::identity::{self, Identity};
#[cfg(feature = "postgres")]
use crate::outbox;
#[cfg(feature = "postgres")]
use crate::peers::certificate::Certificate;
use crate::secrets;
use std::sync::Arc;
#[cfg(feature = "postgres")]
use stormhook_engine::Engine;
use stormhook_engine::Store;
#[cfg(feature = "postgres")]
use stormhook_engine::store::Lane;
#[cfg(not(feature = "postgres"))]
use stormhook_store::StoreError;
use stormhook_store::{Keys, Options};
#[cfg(feature = "postgres")]
use tokio::runtime::Handle;

/// The store's bounds as the configuration has them.
pub fn options(config: &Config) -> Options {
    let ttl = config.idempotency.ttl.as_millis();
    Options {
        cache_bytes: config.store.cache,
        pending_limit: config.limits.pending_deliveries,
        endpoints_per_organization: config.limits.endpoints_per_organization,
        idempotency_ttl_ms: u64::try_from(ttl).unwrap_or(u64::MAX),
        ..Options::new(config.data_dir.join(STORE_FILE))
    }
}

/// An opened store.
pub(super) struct Opened {
    pub(super) store: Store,
    /// Where it is.
    pub(super) place: String,
    /// The listener for other daemons on the same database.
    #[cfg(feature = "postgres")]
    pub(super) peers: Option<PeerListener>,
    /// Held until the process ends.
    #[cfg(feature = "postgres")]
    _identity: Option<Identity>,
}

/// Opens the store that the configuration names.
pub(super) async fn open_store(config: &Config) -> Result<Opened, ServeError> {
    #[cfg(not(feature = "postgres"))]
    if config.outbox.url.is_some() {
        let what = "this build can't use outbox.url: build stormhook with the feature `postgres`";
        return Err(StoreError::Database(what.to_owned()).into());
    }
    let keys = secrets::keys(config)?;
    let Some(url) = &config.store.url else {
        let options = Options {
            keys,
            ..options(config)
        };
        let place = options.path.display().to_string();
        return Ok(Opened {
            store: stormhook_store::Store::open(options)?.into(),
            place,
            #[cfg(feature = "postgres")]
            peers: None,
            #[cfg(feature = "postgres")]
            _identity: None,
        });
    };
    open_database(config, url, keys).await
}

#[cfg(feature = "postgres")]
async fn open_database(config: &Config, url: &str, keys: Arc<Keys>) -> Result<Opened, ServeError> {
    let identity = identity::of(&config.data_dir)?;
    let mut options = database_options(config, url);
    options.daemon = identity.id;
    options.keys = keys;
    let peers = match config.cluster.listen {
        Some(address) => Some(PeerListener::bind(address, Certificate::make()?).await?),
        None => None,
    };
    if let Some(peers) = &peers {
        let bound = || peers.address().to_string();
        options.address = Some(config.cluster.advertise.clone().unwrap_or_else(bound));
        options.certificate = Some(peers.certificate().to_vec());
    }
    let store = stormhook_postgres::Store::open(options).await?;
    Ok(Opened {
        store: Lane::new(store, Handle::current()).into(),
        place: config::without_password(url),
        peers,
        _identity: Some(identity),
    })
}

#[cfg(not(feature = "postgres"))]
async fn open_database(_: &Config, _: &str, _: Arc<Keys>) -> Result<Opened, ServeError> {
    let what = "this build can't use store.url: build stormhook with the feature `postgres`";
    Err(StoreError::Database(what.to_owned()).into())
}

/// The store's bounds as the configuration has them, for a database.
#[cfg(feature = "postgres")]
pub fn database_options(config: &Config, url: &str) -> stormhook_postgres::Options {
    let options = options(config);
    stormhook_postgres::Options {
        pending_limit: options.pending_limit,
        endpoints_per_organization: options.endpoints_per_organization,
        idempotency_ttl_ms: options.idempotency_ttl_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        lease: config.store.lease,
        attempt_timeout: config.delivery.timeout,
        ..stormhook_postgres::Options::new(url)
    }
}

/// Takes events from the outboxes that the configuration names.
#[cfg(feature = "postgres")]
pub(super) fn take_from_outboxes(config: &Config, engine: &Engine, live: &LiveConfig, app: &App) {
    for url in config.outboxes() {
        let outbox = stormhook_postgres::Outbox::new(database_options(config, url));
        let place = config::without_password(url);
        outbox::take_from(outbox, place, engine, live, app);
    }
}

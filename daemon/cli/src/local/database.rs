//! The database of `store.url` or `outbox.url`, for `stormhook migrate`.

use super::ConfigFlags;
use crate::failure::Failure;

/// See the module.
#[derive(Debug)]
pub(crate) struct Database {
    #[cfg(feature = "postgres")]
    options: stormhook_postgres::Options,
    /// Whether it holds the outbox alone.
    #[cfg(feature = "postgres")]
    is_outbox: bool,
}

impl Database {
    /// Returns the database that the configuration names.
    pub(crate) fn of(flags: ConfigFlags) -> Result<Self, Failure> {
        let (config, _) = flags.load()?;
        let Some(url) = &config.store.url else {
            let what = "store.url is not set: the store is a file, which needs no preparation";
            return Err(Failure::Usage(what.to_owned()));
        };
        Self::at(&config, url, false)
    }

    /// Returns the database that has the outbox alone.
    pub(crate) fn of_outbox(flags: ConfigFlags) -> Result<Self, Failure> {
        let (config, _) = flags.load()?;
        let Some(url) = &config.outbox.url else {
            let what =
                "outbox.url is not set: it names the database that producers write events to";
            return Err(Failure::Usage(what.to_owned()));
        };
        Self::at(&config, url, true)
    }
}

#[cfg(feature = "postgres")]
impl Database {
    #[allow(clippy::unnecessary_wraps, reason = "without the feature it fails")]
    fn at(
        config: &stormhook_daemon::config::Config,
        url: &str,
        is_outbox: bool,
    ) -> Result<Self, Failure> {
        let options = stormhook_daemon::serve::database_options(config, url);
        Ok(Self { options, is_outbox })
    }

    /// Returns what is to do.
    pub(crate) async fn pending(&self) -> Result<Vec<String>, Failure> {
        let pending = if self.is_outbox {
            stormhook_postgres::pending_outbox(&self.options).await
        } else {
            stormhook_postgres::pending(&self.options).await
        };
        pending.map_err(|error| Failure::No(error.to_string()))
    }

    /// Prepares the database, and returns what was done.
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, Failure> {
        let done = if self.is_outbox {
            stormhook_postgres::install_outbox(&self.options).await
        } else {
            stormhook_postgres::migrate(&self.options).await
        };
        done.map_err(|error| Failure::No(error.to_string()))
    }
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async, reason = "with the feature they wait")]
impl Database {
    fn at(_: &stormhook_daemon::config::Config, _: &str, _: bool) -> Result<Self, Failure> {
        let what = "this build can't use a database: build stormhook with the feature `postgres`";
        Err(Failure::Usage(what.to_owned()))
    }

    pub(crate) async fn pending(&self) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    pub(crate) async fn migrate(&self) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}

//! The databases of `store.url` and `outbox.url`: to prepare them, and to move everything from or to the store's.

use super::ConfigFlags;
use crate::failure::Failure;
use std::ops::ControlFlow;
use std::sync::Arc;
use stormhook_daemon::config::Config;
#[cfg(feature = "postgres")]
use stormhook_engine::environment::{Environment, System};
use stormhook_store::{AtRest, Form, Item, Keys, StoreError};

/// See the module.
#[derive(Debug, Clone)]
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
        let what = "store.url is not set: the store is a file, which needs no preparation";
        Self::in_config(&config)?.ok_or_else(|| Failure::Usage(what.to_owned()))
    }

    /// Returns the database of a configuration, if it names one.
    pub(super) fn in_config(config: &Config) -> Result<Option<Self>, Failure> {
        let url = config.store.url.as_ref();
        url.map(|url| Self::at(config, url, false)).transpose()
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
    fn at(config: &Config, url: &str, is_outbox: bool) -> Result<Self, Failure> {
        let options = stormhook_daemon::serve::database_options(config, url);
        Ok(Self { options, is_outbox })
    }

    /// Returns the same database with these keys for its secrets.
    pub(crate) fn with_keys(mut self, keys: Arc<Keys>) -> Self {
        self.options.keys = keys;
        self
    }

    /// Returns in which form it keeps its secrets.
    pub(super) async fn at_rest(&self) -> Result<AtRest, StoreError> {
        stormhook_postgres::secrets_at_rest(&self.options).await
    }

    /// Rewrites its secrets in this form, while no daemon uses it. What was begun before is finished first.
    pub(crate) async fn reseal(
        &self,
        to: Form,
        mut each: impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let random = System.random_u128();
        stormhook_postgres::reseal(&self.options, to, random, |_| each(1)).await
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

    pub(super) async fn export(
        &self,
        with_secrets: bool,
        each: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        stormhook_postgres::export(&self.options, with_secrets, each).await
    }

    pub(super) async fn import<E: From<StoreError>>(
        &self,
        next: impl FnMut() -> Result<Option<Item>, E>,
    ) -> Result<(), E> {
        stormhook_postgres::import(&self.options, System.random_u128(), next).await
    }

    pub(super) async fn mark_moved(&self, to: &str) -> Result<(), StoreError> {
        stormhook_postgres::mark_moved(&self.options, to).await
    }

    pub(super) async fn reopen(&self) -> Result<Option<String>, StoreError> {
        stormhook_postgres::reopen(&self.options).await
    }

    pub(super) async fn discard_import(&self) -> Result<bool, StoreError> {
        stormhook_postgres::discard_import(&self.options).await
    }
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async, reason = "with the feature they wait")]
/// There is no value of it: [`Database::at`] refuses.
impl Database {
    fn at(_: &Config, _: &str, _: bool) -> Result<Self, Failure> {
        let what = "this build can't use a database: build stormhook with the feature `postgres`";
        Err(Failure::Usage(what.to_owned()))
    }

    pub(super) async fn at_rest(&self) -> Result<AtRest, StoreError> {
        Ok(AtRest::default())
    }

    pub(crate) fn with_keys(self, _: Arc<Keys>) -> Self {
        self
    }

    pub(crate) async fn reseal(&self, _: Form, _: impl FnMut(u64)) -> Result<(), StoreError> {
        Ok(())
    }

    pub(crate) async fn pending(&self) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    pub(crate) async fn migrate(&self) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    pub(super) async fn export(
        &self,
        _: bool,
        _: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) async fn import<E: From<StoreError>>(
        &self,
        _: impl FnMut() -> Result<Option<Item>, E>,
    ) -> Result<(), E> {
        Ok(())
    }

    pub(super) async fn mark_moved(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) async fn reopen(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    pub(super) async fn discard_import(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

//! Questions beside the writer. Those to a file are answered at once; those to a database wait.

use super::{BulkWalk, Sweeper};
use std::sync::Arc;
use stormhook_store::api_key::KeyDigest;
use stormhook_store::backend::Weights;
use stormhook_store::stats::{Span, Window};
use stormhook_store::{
    ApiKey, ApiKeyId, AtRest, AuditEntry, AuditFilter, CheckReport, Cursor, Endpoint, EndpointId,
    EndpointState, FileBytes, Form, Named, Page, Recover, Slot, StatsOf, StoreError, UnixMs,
};

/// Answers questions beside the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Reader {
    /// Of the file.
    File(stormhook_store::Reader),
    /// Of a database.
    #[cfg(feature = "postgres")]
    Postgres(stormhook_postgres::Reader),
}

/// Asks either reader the same question; the second waits.
macro_rules! ask {
    ($reader:expr, $method:ident($($argument:expr),*)) => {
        match $reader {
            Reader::File(reader) => reader.$method($($argument),*),
            #[cfg(feature = "postgres")]
            Reader::Postgres(reader) => reader.$method($($argument),*).await,
        }
    };
}

/// Asks either reader the same question, which memory answers.
macro_rules! know {
    ($reader:expr, $method:ident($($argument:expr),*)) => {
        match $reader {
            Reader::File(reader) => reader.$method($($argument),*),
            #[cfg(feature = "postgres")]
            Reader::Postgres(reader) => reader.$method($($argument),*),
        }
    };
}

mod purged;

impl Reader {
    /// Returns the reader of the file, if the store is one.
    pub fn file(&self) -> Option<&stormhook_store::Reader> {
        match self {
            Self::File(reader) => Some(reader),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => None,
        }
    }

    /// Returns how many rounds a recovery would open.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn count_recoverable(&self, recover: &Recover) -> Result<u64, StoreError> {
        ask!(self, count_recoverable(recover))
    }

    /// Returns the counts of a span of time that ends now, and how many rows of it are damaged.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn stats_and_damage(
        &self,
        span: Span,
        now: UnixMs,
        of: &StatsOf,
    ) -> Result<(Window, u64), StoreError> {
        ask!(self, stats_and_damage(span, now, of))
    }

    /// Returns the API key with this digest.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn find_api_key(
        &self,
        digest: &KeyDigest,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        match self {
            Self::File(reader) => Ok(reader.with_api_keys(|keys| keys.find(digest).cloned())),
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => reader.find_api_key(digest).await,
        }
    }

    /// Returns an API key as memory has it.
    pub fn api_key(&self, id: ApiKeyId) -> Option<Arc<ApiKey>> {
        know!(self, with_api_keys(|keys| keys.get(id).cloned()))
    }

    /// Returns API keys, newest first.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn api_keys(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Arc<ApiKey>>, StoreError> {
        let purges = self.purges_of_all().await?;
        let mut page = match self {
            Self::File(reader) => reader.api_keys(after, limit),
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => reader.api_keys(after, limit).await?,
        };
        let removed = |key: &Arc<ApiKey>| {
            let of = key.organization.as_deref();
            of.is_some_and(|of| purges.removes(of, key.created_at))
        };
        page.items.retain(|key| !removed(key));
        Ok(page)
    }

    /// Returns entries of the audit log, newest first.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry>, StoreError> {
        ask!(self, audit(filter, after, limit))
    }

    /// Returns the organization of an object.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn organization_of(&self, what: Named) -> Result<Option<String>, StoreError> {
        #[cfg(feature = "postgres")]
        if let Self::Postgres(reader) = self {
            return reader.organization_of(what).await;
        }
        let endpoint = match what {
            Named::Endpoint(id) => self.endpoint_or_mark(id),
            Named::Slot(slot) => self.endpoint_by_slot(slot),
            Named::Event(id) => {
                let event = self.event(id).await?;
                return Ok(event.map(|event| event.organization.clone()));
            }
        };
        Ok(endpoint.map(|endpoint| endpoint.organization.clone()))
    }

    /// Verifies the store, and returns the sizes of its parts where it is a file.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`]. Damage is not an error but part of the report.
    pub async fn check(&self) -> Result<(CheckReport, Option<FileBytes>), StoreError> {
        match self {
            Self::File(reader) => {
                let report = reader.check()?;
                match reader.file_bytes() {
                    Ok(bytes) => Ok((report, Some(bytes))),
                    // The report names it.
                    Err(_) if !report.damage.is_empty() => Ok((report, None)),
                    Err(error) => Err(error),
                }
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => Ok((reader.check().await?, None)),
        }
    }

    /// Returns the length of the file; `None` of a database.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub fn file_len(&self) -> Result<Option<u64>, StoreError> {
        self.file()
            .map(stormhook_store::Reader::file_len)
            .transpose()
    }

    /// Returns an endpoint that was not deleted.
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        know!(self, endpoint(id))
    }

    /// Returns an endpoint, or the rest of a deleted one.
    pub fn endpoint_or_mark(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        know!(self, endpoint_or_mark(id))
    }

    /// Returns an endpoint by its number, or the rest of a deleted one.
    pub fn endpoint_by_slot(&self, slot: Slot) -> Option<Arc<Endpoint>> {
        know!(self, endpoint_by_slot(slot))
    }

    /// Returns endpoints that were not deleted, newest first, with the state of each.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub async fn endpoints(
        &self,
        organization: Option<&str>,
        active: Option<bool>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<(Arc<Endpoint>, EndpointState)>, StoreError> {
        match self {
            Self::File(reader) => {
                let page = reader.endpoints(organization, active, after, limit);
                let with_state = |e: Arc<Endpoint>| {
                    let state = reader.state(e.slot);
                    (e, state)
                };
                Ok(Page {
                    items: page.items.into_iter().map(with_state).collect(),
                    next: page.next,
                    damaged: page.damaged,
                })
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => {
                reader
                    .endpoints_of_all(organization, active, after, limit)
                    .await
            }
        }
    }

    /// Returns every endpoint, including the rest of deleted ones, in order of number.
    pub fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        know!(self, all_endpoints())
    }

    /// Returns the running state of an endpoint.
    pub fn state(&self, slot: Slot) -> EndpointState {
        know!(self, state(slot))
    }

    /// Changes the limits from the next batch on.
    pub fn set_limits(&self, pending_limit: u64, endpoints_per_organization: usize) {
        know!(self, set_limits(pending_limit, endpoints_per_organization));
    }

    /// Whether stats in memory are waiting to be written.
    pub fn stats_wait(&self) -> bool {
        know!(self, stats_wait())
    }

    /// Returns the number of open deliveries.
    pub fn open_count(&self) -> u64 {
        know!(self, open_count())
    }

    /// Returns a time that the store's time has certainly reached.
    ///
    /// # Errors
    /// As [`super::Store::open_deliveries`].
    pub fn last_at(&self) -> Result<UnixMs, StoreError> {
        know!(self, last_at())
    }

    /// Returns the paced time of the last commit; 0 if unknown.
    pub fn paced_at(&self) -> UnixMs {
        know!(self, paced_at())
    }

    /// Whether attempts may start: no other process takes over yet.
    pub(crate) fn may_start(&self) -> bool {
        match self {
            Self::File(_) => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => reader.may_start(),
        }
    }

    /// Passes what weighs the operations of the next batch.
    pub(crate) fn weigh<T>(&self, weigh: impl FnOnce(Weights<'_>) -> T) -> T {
        know!(self, weigh(weigh))
    }

    /// Whether bulk changes of this endpoint are in progress.
    pub(crate) fn bulk_waits_for(&self, slot: Slot) -> bool {
        know!(self, bulk_waits_for(slot))
    }

    /// Returns the endpoints with bulk changes in progress, and the last stamp of each.
    pub(crate) fn bulks(&self) -> Vec<(Slot, u64)> {
        know!(self, bulks())
    }

    /// Returns a walk for the bulk changes of this endpoint up to this stamp; `None` if there are none.
    pub(crate) fn bulk_walk(&self, slot: Slot, upto: u64) -> Option<BulkWalk> {
        match self {
            Self::File(reader) => reader.bulk_walk(slot, upto).map(BulkWalk::File),
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => reader.bulk_walk(slot, upto).map(BulkWalk::Postgres),
        }
    }

    /// Returns in which form secrets are kept.
    pub fn at_rest(&self) -> AtRest {
        know!(self, at_rest())
    }

    /// Returns the form that secrets are to be brought to, if any may have another.
    pub(crate) fn form_wanted(&self) -> Option<Form> {
        know!(self, form_wanted())
    }

    /// Returns a sweeper.
    pub(crate) fn sweeper(&self) -> Sweeper {
        match self {
            Self::File(reader) => Sweeper::File(Box::new(reader.sweeper())),
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => Sweeper::Postgres(reader.sweeper()),
        }
    }
}

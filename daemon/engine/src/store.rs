//! The store that the engine works on: the file, or a database. Both decide with the same code; here is the choice.
//!
//! Questions to the file are answered at once and block for as long as they read. Those to a database wait. Without the
//! feature `postgres` there is only the file, and each choice has one case.

mod reader;

pub use reader::Reader;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use stormhook_store::{
    Applied, BulkFound, Found, Horizon, Now, Op, QueueEntry, StoreError, UnixMs,
};

/// The one writer.
#[derive(Debug)]
pub enum Store {
    /// One redb file.
    File(stormhook_store::Store),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(Box<Lane>),
}

/// The writer of a database.
#[cfg(feature = "postgres")]
#[derive(Debug)]
pub struct Lane {
    store: stormhook_postgres::Store,
    runtime: tokio::runtime::Handle,
}

#[cfg(feature = "postgres")]
impl Lane {
    /// Returns a writer whose connections are driven by this runtime. A thread that may block waits for them there.
    pub fn new(store: stormhook_postgres::Store, runtime: tokio::runtime::Handle) -> Self {
        Self { store, runtime }
    }
}

impl From<stormhook_store::Store> for Store {
    fn from(file: stormhook_store::Store) -> Self {
        Self::File(file)
    }
}

#[cfg(feature = "postgres")]
impl From<Lane> for Store {
    fn from(lane: Lane) -> Self {
        Self::Postgres(Box::new(lane))
    }
}

impl Store {
    /// Returns a reader beside this writer.
    pub fn reader(&self) -> Reader {
        match self {
            Self::File(store) => Reader::File(store.reader()),
            #[cfg(feature = "postgres")]
            Self::Postgres(lane) => Reader::Postgres(lane.store.reader()),
        }
    }

    /// Passes every open delivery to `each`, in order of due time.
    ///
    /// # Errors
    /// The store can't be read. The same applies to every method here that returns an error.
    pub async fn open_deliveries(
        &self,
        each: impl FnMut(QueueEntry) + Send,
    ) -> Result<(), StoreError> {
        match self {
            Self::File(store) => store.open_deliveries(each),
            #[cfg(feature = "postgres")]
            Self::Postgres(lane) => lane.store.open_deliveries(each).await,
        }
    }

    /// Allows writes: see [`stormhook_store::Store::accept`].
    ///
    /// # Errors
    /// As [`Store::open_deliveries`].
    pub fn accept(&self) -> Result<(), StoreError> {
        match self {
            Self::File(store) => store.accept(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Runs a batch in one durable transaction. `random` makes ids differ.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`]: nothing was stored. [`StoreError::InDoubt`]: not known yet; call
    /// [`Store::resolve_in_doubt`] until it succeeds. Until then every batch fails.
    pub async fn apply(
        &mut self,
        ops: &[Op],
        now: Now,
        random: u128,
    ) -> Result<Applied, StoreError> {
        match self {
            Self::File(store) => store.apply(ops, now, random),
            #[cfg(feature = "postgres")]
            Self::Postgres(lane) => lane.store.apply(ops, now, random).await,
        }
    }

    /// Lets others have what this process decides about: the last thing before it ends.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
    pub(crate) async fn leave(&mut self, now: Now, random: u128) {
        match self {
            Self::File(_) => {}
            #[cfg(feature = "postgres")]
            Self::Postgres(lane) => {
                if let Err(error) = lane.store.leave(now, random).await {
                    tracing::warn!(%error, "the shards could not be given; others take them over when the lease has ended");
                }
            }
        }
    }

    /// Returns what drives this store's commits on a thread that may block.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Self::File(_) => Driver::AtOnce,
            #[cfg(feature = "postgres")]
            Self::Postgres(lane) => Driver::Runtime(lane.runtime.clone()),
        }
    }

    /// Returns this process's place among those on the database; `None` of a file.
    #[cfg(feature = "postgres")]
    pub fn cluster(&self) -> Option<stormhook_postgres::Cluster> {
        match self {
            Self::File(_) => None,
            Self::Postgres(lane) => Some(lane.store.cluster()),
        }
    }

    /// Finds out after a failure whether the last commit happened. `Some`: it did, with this result. `None`: nothing of
    /// it was stored.
    ///
    /// # Errors
    /// The store can't be opened yet.
    pub async fn resolve_in_doubt(&mut self) -> Result<Option<Applied>, StoreError> {
        match self {
            Self::File(store) => store.resolve_in_doubt(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lane) => lane.store.resolve_in_doubt().await,
        }
    }
}

/// See [`Store::driver`].
pub(crate) enum Driver {
    /// Nothing in a file's commit waits, except by blocking.
    AtOnce,
    #[cfg(feature = "postgres")]
    Runtime(tokio::runtime::Handle),
}

impl Driver {
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        match self {
            Self::AtOnce => {
                let mut work = pin!(work);
                let mut context = Context::from_waker(Waker::noop());
                loop {
                    if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                        return done;
                    }
                }
            }
            #[cfg(feature = "postgres")]
            Self::Runtime(runtime) => runtime.block_on(work),
        }
    }
}

/// Finds what bulk changes still have to write.
pub(crate) enum BulkWalk {
    File(stormhook_store::BulkWalk),
    #[cfg(feature = "postgres")]
    Postgres(stormhook_postgres::BulkWalk),
}

impl BulkWalk {
    pub(crate) async fn step(&mut self) -> Result<BulkFound, StoreError> {
        match self {
            Self::File(walk) => walk.step(),
            #[cfg(feature = "postgres")]
            Self::Postgres(walk) => walk.step().await,
        }
    }

    pub(crate) fn end(&self, keep_ends: bool) -> stormhook_store::maintenance::AdvanceBulk {
        match self {
            Self::File(walk) => walk.end(keep_ends),
            #[cfg(feature = "postgres")]
            Self::Postgres(walk) => walk.end(keep_ends),
        }
    }
}

/// Finds what is past its retention.
pub(crate) enum Sweeper {
    File(Box<stormhook_store::Sweeper>),
    #[cfg(feature = "postgres")]
    Postgres(stormhook_postgres::Sweeper),
}

impl Sweeper {
    pub(crate) fn begin(&mut self, horizon: Horizon, now: UnixMs) {
        match self {
            Self::File(sweeper) => sweeper.begin(horizon, now),
            #[cfg(feature = "postgres")]
            Self::Postgres(sweeper) => sweeper.begin(horizon, now),
        }
    }

    pub(crate) async fn step(&mut self) -> Result<Found, StoreError> {
        match self {
            Self::File(sweeper) => sweeper.step(),
            #[cfg(feature = "postgres")]
            Self::Postgres(sweeper) => sweeper.step().await,
        }
    }
}

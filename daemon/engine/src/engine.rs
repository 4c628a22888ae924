//! The composition root of the engine.
//!
//! The daemon, the simulation and the tests start the same engine. Only the ports differ: the store, the environment,
//! the transport, the settings, who else is notified of commits, and what makes the commits (a thread, or a task of the
//! caller).

use crate::clock::{self, StoreClock};
use crate::dispatch::{CommandError, Dispatch, FinishedAttempt, Hold, OnCommit, PingError};
use crate::environment::Environment;
use crate::lifecycle::{Lifecycle, Phase};
use crate::maintenance::Maintenance;
use crate::settings::SettingsSource;
use crate::store::{Reader, Store};
use crate::transport::Transport;
use crate::writer::{Command, Committed, Committer, Pending, Space, SubmitError, Writer};
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::maintenance::{FlushStats, Reseal, Resealed, TouchApiKeys};
use stormhook_store::{
    ApiKeyId, Attempt, Attributed, Delivery, DeliveryId, Endpoint, EndpointId, Form, NewEvent,
    Recover, Refusal, Replay, StoreError, UnixMs, UpdateEndpoint,
};
use tokio::sync::broadcast;

/// How long attempts on the wire may take to finish when the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the rest may take: recording interrupted attempts, and the last commit.
const RECORD: Duration = Duration::from_secs(2);

/// What the engine is started on.
pub struct Ports {
    /// The store, opened but not accepted yet.
    pub store: Store,
    /// Clock and randomness.
    pub environment: Arc<dyn Environment>,
    /// Sends attempts.
    pub transport: Arc<dyn Transport>,
    /// The current settings.
    pub settings: Arc<dyn SettingsSource>,
    /// The phase of the process.
    pub life: Arc<Lifecycle>,
}

/// See the module.
#[derive(Clone)]
pub struct Engine {
    settings: Arc<dyn SettingsSource>,
    life: Arc<Lifecycle>,
    clock: Arc<StoreClock>,
    writer: Arc<Writer>,
    reader: Reader,
    dispatch: Arc<Dispatch>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// An engine that has read everything it needs but makes no commits yet.
pub struct Loaded {
    engine: Engine,
    store: Store,
}

impl Engine {
    /// Reads the open deliveries, then accepts the store. Until this succeeds, the file is not changed.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn load(ports: Ports) -> Result<Loaded, StoreError> {
        let Ports {
            store,
            environment,
            transport,
            settings,
            life,
        } = ports;
        let reader = store.reader();
        let clock = StoreClock::starting_at(environment, reader.last_at()?);
        let clock = Arc::new(clock.paced_from(reader.paced_at()));
        let writer = Writer::new();
        let dispatch = Dispatch::new(
            &store,
            Arc::clone(&writer),
            Arc::clone(&clock),
            Arc::clone(&life),
            Arc::clone(&settings),
            transport,
        )
        .await?;
        store.accept()?;
        let engine = Self {
            settings,
            life,
            clock,
            writer,
            reader,
            dispatch,
        };
        Ok(Loaded { engine, store })
    }

    /// Returns the lifecycle of the process.
    pub fn life(&self) -> &Arc<Lifecycle> {
        &self.life
    }

    /// Returns the store's clock.
    pub fn clock(&self) -> &Arc<StoreClock> {
        &self.clock
    }

    /// Returns the writer, which queues operations for their commits.
    pub fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// Returns a reader of the store.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns the dispatch: the open deliveries, and the attempts on the wire.
    pub fn dispatch(&self) -> &Arc<Dispatch> {
        &self.dispatch
    }

    /// Carries out a command and waits for its durable commit.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit<T, C>(&self, command: C) -> Result<T, CommandError>
    where
        C: Command<Answer = Result<T, Refusal>>,
    {
        self.still_takes()?;
        Ok(self.writer.submit(command).await??)
    }

    /// Queues an event. Waits for room: back-pressure for a stream.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn enqueue(&self, event: NewEvent) -> Result<Pending<NewEvent>, SubmitError> {
        let still_takes = || self.still_takes();
        self.writer.enqueue_with_room(event, still_takes).await
    }

    /// Keeps a delivery off the wire, to retry or cancel it.
    ///
    /// # Errors
    /// An attempt is on the wire, or the daemon is stopping.
    pub fn hold(&self, id: DeliveryId) -> Result<Hold, CommandError> {
        self.still_takes()?;
        self.dispatch.hold(id)
    }

    /// Sends an event to one endpoint again: a new round of its delivery, or the first.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn replay(
        &self,
        replay: impl Into<Attributed<Replay>>,
    ) -> Result<Box<Delivery>, CommandError> {
        self.still_takes()?;
        self.dispatch.replay(replay).await
    }

    /// Changes an endpoint.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn update_endpoint(
        &self,
        update: impl Into<Attributed<UpdateEndpoint>>,
    ) -> Result<Arc<Endpoint>, CommandError> {
        self.still_takes()?;
        self.dispatch.update_endpoint(update).await
    }

    /// Begins a recovery.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn recover(
        &self,
        recover: impl Into<Attributed<Recover>>,
    ) -> Result<Recover, CommandError> {
        self.still_takes()?;
        self.dispatch.recover(recover).await
    }

    /// Begins to bring the secrets of a store in a file to another form, and returns when that is durable. The rest is
    /// done in the background. What was begun before is finished first.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn reseal(&self, to: Form) -> Result<Resealed, SubmitError> {
        self.still_takes()?;
        let done = self.writer.submit(Reseal { to }).await?;
        self.dispatch.call_maintenance();
        Ok(done)
    }

    /// Sends a test delivery, which is neither stored nor counted.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping(&self, endpoint: EndpointId) -> Result<Attempt, PingError> {
        self.dispatch.ping(endpoint).await
    }

    /// Subscribes to the attempts that finish from now on.
    pub fn attempts(&self) -> broadcast::Receiver<Arc<FinishedAttempt>> {
        self.dispatch.attempts()
    }

    /// Fails once the daemon is stopping.
    fn still_takes(&self) -> Result<(), SubmitError> {
        if self.life.is_stopping() {
            return Err(SubmitError::ShuttingDown);
        }
        Ok(())
    }

    /// Returns an id for a new endpoint.
    pub fn new_endpoint_id(&self) -> EndpointId {
        let random = self.clock.environment().random_u128();
        EndpointId::new(self.clock.now(), random)
    }

    /// Returns an id for a new API key.
    pub fn new_api_key_id(&self) -> ApiKeyId {
        let random = self.clock.environment().random_u128();
        ApiKeyId::new(self.clock.now(), random)
    }

    /// Writes when API keys were last used.
    pub fn api_keys_used(&self, used: Vec<(ApiKeyId, UnixMs)>) {
        self.writer.post(TouchApiKeys(used));
    }

    /// Whether events are accepted and delivered.
    ///
    /// # Errors
    /// Why not, as a sentence for operators.
    pub fn readiness(&self) -> Result<(), &'static str> {
        match self.life.phase() {
            Phase::Starting => Err("starting"),
            Phase::Running if self.writer.is_damaged() => Err(
                "the store is damaged and nothing can be committed: stop the daemon and run `stormhook compact`, or restore a backup",
            ),
            Phase::Running if self.writer.is_failing() => Err("the last commit failed"),
            Phase::Running if self.writer.is_refusing() => Err(
                "the store is damaged where events are written: stop the daemon and run `stormhook compact`, or restore a backup",
            ),
            Phase::Running if !self.reader.may_start() => {
                Err("the lease could not be renewed, since the database does not answer in time")
            }
            Phase::Running => Ok(()),
            Phase::Draining | Phase::Cut | Phase::Closing => Err("stopping"),
        }
    }

    /// Applies the settings after a change.
    pub fn reconfigured(&self) {
        let settings = self.settings.settings();
        self.reader.set_limits(
            settings.pending_deliveries,
            settings.endpoints_per_organization,
        );
        self.dispatch.reconfigured();
    }

    /// Accepts nothing more and lets attempts on the wire finish. Attempts that take too long, or that are still on the
    /// wire when `hurry` resolves, are recorded as interrupted.
    pub async fn drain(&self, hurry: impl Future<Output = ()>) {
        let dispatch = &self.dispatch;
        dispatch.drain();
        let silent = tokio::select! {
            biased;
            () = dispatch.drained() => true,
            () = tokio::time::sleep_until(clock::deadline(DRAIN)) => false,
            () = hurry => false,
        };
        if !silent {
            dispatch.cut();
            let _late = tokio::time::timeout(RECORD, dispatch.drained()).await;
        }
        self.life.go_on_to(Phase::Closing);
    }

    /// Queues the final statistics and closes the queue. The committer ends once everything in it is committed.
    pub fn close(&self) {
        self.writer.post(FlushStats);
        self.writer.close();
    }
}

#[cfg(feature = "postgres")]
mod clustered {
    //! Moves shards between this process and others on the same database.

    use super::Engine;
    use stormhook_postgres::{Cluster, Moves};
    use stormhook_store::Slot;
    use stormhook_store::maintenance::Probe;

    impl Moves for Engine {
        fn wake(&self) {
            self.writer.post(Probe);
        }

        async fn release(&self, slots: Vec<Slot>) {
            self.dispatch.release(slots).await;
        }
    }

    impl Engine {
        /// Keeps the lease for as long as the process runs.
        pub(super) fn keep(&self, cluster: Cluster) {
            let engine = self.clone();
            tokio::spawn(async move {
                let error = cluster.keep(engine.clone()).await;
                tracing::error!(%error, "the lease is lost");
                engine.writer.set_taken_over();
            });
        }
    }
}

impl Loaded {
    /// Returns the engine, before it runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Starts delivering, and returns the committer for the caller to run. `told` wraps the dispatch's observer of
    /// commits; `look` returns the space that is left.
    pub fn start(
        self,
        told: impl FnOnce(OnCommit) -> Arc<dyn Committed>,
        look: impl Fn() -> Space + Send + 'static,
    ) -> (Engine, Committer) {
        let Self { engine, store } = self;
        #[cfg(feature = "postgres")]
        let cluster = store.cluster();
        let told = told(OnCommit(Arc::clone(&engine.dispatch)));
        let clock = Arc::clone(&engine.clock);
        let committer = engine.writer.committer(store, clock, told, look);
        let maintenance = Maintenance {
            dispatch: Arc::clone(&engine.dispatch),
            writer: Arc::clone(&engine.writer),
            reader: engine.reader.clone(),
            clock: Arc::clone(&engine.clock),
            settings: Arc::clone(&engine.settings),
            life: Arc::clone(&engine.life),
        };
        engine.dispatch.start(maintenance.run());
        #[cfg(feature = "postgres")]
        if let Some(cluster) = cluster {
            engine.keep(cluster);
        }
        (engine, committer)
    }
}

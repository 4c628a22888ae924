//! The engine, put together.
//!
//! The daemon, the simulation and the tests start the same engine. What differs is its ports: the store, the environment, the transport,
//! the settings, who else is told of commits, and what makes the commits (a thread, or a task of the caller's).

use crate::clock::{self, StoreClock};
use crate::dispatch::{CommandError, Dispatch, FinishedAttempt, Hold, OnCommit, PingError};
use crate::environment::Environment;
use crate::lifecycle::{Lifecycle, Phase};
use crate::maintenance::Maintenance;
use crate::settings::SettingsSource;
use crate::transport::Transport;
use crate::writer::{Command, Committed, Committer, Pending, Space, SubmitError, Writer};
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::maintenance::FlushStats;
use stormhook_store::{
    Attempt, Delivery, DeliveryId, Endpoint, EndpointId, NewEvent, Reader, Recover, Refusal,
    Replay, Store, StoreError, UpdateEndpoint,
};
use tokio::sync::broadcast;

/// How long attempts on the wire may take to finish once the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the rest may take: recording what was cut, and the last commit.
const RECORD: Duration = Duration::from_secs(2);

/// What the engine is started on.
pub struct Ports {
    /// The store, opened and not accepted yet.
    pub store: Store,
    /// Clock and randomness.
    pub environment: Arc<dyn Environment>,
    /// What attempts are sent over.
    pub transport: Arc<dyn Transport>,
    /// The current settings.
    pub settings: Arc<dyn SettingsSource>,
    /// How far the process is between its start and its end.
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

/// An engine that has read all that it needs, and makes no commit yet.
pub struct Loaded {
    engine: Engine,
    store: Store,
}

impl Engine {
    /// Reads what waits, and then accepts the store: until this succeeds the file stays as it was.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn load(ports: Ports) -> Result<Loaded, StoreError> {
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
        )?;
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

    /// How far the process is.
    pub fn life(&self) -> &Arc<Lifecycle> {
        &self.life
    }

    /// The store's time.
    pub fn clock(&self) -> &Arc<StoreClock> {
        &self.clock
    }

    /// What waits for its commit.
    pub fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// Reads the store.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What waits, and what is on the wire.
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

    /// Queues an event, waiting for room: back-pressure for a stream.
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
    pub async fn replay(&self, replay: Replay) -> Result<Box<Delivery>, CommandError> {
        self.still_takes()?;
        self.dispatch.replay(replay).await
    }

    /// Changes an endpoint.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn update_endpoint(
        &self,
        update: UpdateEndpoint,
    ) -> Result<Arc<Endpoint>, CommandError> {
        self.still_takes()?;
        self.dispatch.update_endpoint(update).await
    }

    /// Begins a recovery.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn recover(&self, recover: Recover) -> Result<Recover, CommandError> {
        self.still_takes()?;
        self.dispatch.recover(recover).await
    }

    /// Sends a test delivery.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping(&self, endpoint: EndpointId) -> Result<Attempt, PingError> {
        self.dispatch.ping(endpoint).await
    }

    /// Attempts that finish from now on.
    pub fn attempts(&self) -> broadcast::Receiver<Arc<FinishedAttempt>> {
        self.dispatch.attempts()
    }

    /// Whether anything is accepted from callers.
    fn still_takes(&self) -> Result<(), SubmitError> {
        if self.is_stopping() {
            return Err(SubmitError::ShuttingDown);
        }
        Ok(())
    }

    /// An id for a new endpoint.
    pub fn new_endpoint_id(&self) -> EndpointId {
        let random = self.clock.environment().random_u128();
        EndpointId::new(self.clock.now(), random)
    }

    /// Whether the daemon has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.life.phase() >= Phase::Draining
    }

    /// Whether events are accepted and delivered.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn readiness(&self) -> Result<(), &'static str> {
        match self.life.phase() {
            Phase::Starting => Err("starting"),
            Phase::Running if self.writer.is_damaged() => Err(
                "the store is damaged and takes no commit: stop the daemon and run `stormhook compact`, or restore a backup",
            ),
            Phase::Running if self.writer.is_failing() => Err("the last commit failed"),
            Phase::Running if self.writer.is_refusing() => Err(
                "the store is damaged where events are written: stop the daemon and run `stormhook compact`, or restore a backup",
            ),
            Phase::Running => Ok(()),
            Phase::Draining | Phase::Cut | Phase::Closing => Err("stopping"),
        }
    }

    /// Applies the settings, which changed just now.
    pub fn reconfigured(&self) {
        let settings = self.settings.settings();
        self.reader.set_limits(
            settings.pending_deliveries,
            settings.endpoints_per_organization,
        );
        self.dispatch.reconfigured();
    }

    /// Takes nothing more and lets what is on the wire finish; what takes too long, or is still there when `hurry` resolves, is recorded
    /// as cut.
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

    /// Has the rest committed; the committer ends then.
    pub fn close(&self) {
        self.writer.post(FlushStats);
        self.writer.close();
    }
}

impl Loaded {
    /// The engine, before it runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Starts delivering. What makes the commits is handed back. `told` is who is told of them, the dispatch among them; `look` says how
    /// much room there is.
    pub fn start(
        self,
        told: impl FnOnce(OnCommit) -> Arc<dyn Committed>,
        look: impl Fn() -> Space + Send + 'static,
    ) -> (Engine, Committer) {
        let Self { engine, store } = self;
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
        (engine, committer)
    }
}

//! The engine, put together: everything between an operation and its commit, and between a due delivery and its settled attempt.
//!
//! The daemon, the simulation and the tests start the same engine. What differs is its ports: the store, the environment, the transport,
//! who else is told of commits, and what makes the commits (a thread, or a task of the caller's).

use crate::clock::{self, StoreClock};
use crate::config::{Config, LiveConfig};
use crate::dispatch::{Dispatch, OnCommit};
use crate::environment::Environment;
use crate::life::{Life, Phase};
use crate::transport::Transport;
use crate::writer::{Committed, Committer, Space, Writer};
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::maintenance::FlushStats;
use stormhook_store::{Reader, Store, StoreError};

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
}

/// See the module.
#[derive(Clone)]
pub struct Engine {
    pub(crate) config: LiveConfig,
    pub(crate) life: Arc<Life>,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) reader: Reader,
    pub(crate) dispatch: Arc<Dispatch>,
    transport: Arc<dyn Transport>,
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
    pub fn load(ports: Ports, config: LiveConfig, life: Arc<Life>) -> Result<Loaded, StoreError> {
        let Ports {
            store,
            environment,
            transport,
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
            &config,
            Arc::clone(&transport),
        )?;
        store.accept()?;
        let engine = Self {
            config,
            life,
            clock,
            writer,
            reader,
            dispatch,
            transport,
        };
        Ok(Loaded { engine, store })
    }

    /// The store's time.
    pub fn clock(&self) -> &Arc<StoreClock> {
        &self.clock
    }

    /// Takes operations.
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

    /// Takes over what may change while it runs.
    ///
    /// # Errors
    /// Why the transport can't, for people. Nothing changed then.
    pub fn reconfigure(&self, config: Arc<Config>) -> Result<(), String> {
        self.transport.reconfigure(&config)?;
        self.reader.set_limits(
            config.limits.pending_deliveries,
            config.limits.endpoints_per_organization,
        );
        self.config.set(config);
        self.dispatch.reconfigured();
        Ok(())
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
        engine.dispatch.start();
        (engine, committer)
    }
}

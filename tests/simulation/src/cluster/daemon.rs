//! One daemon: the real engine on the real store, on a runtime of its own, whose clock the run moves. So it can be killed
//! (its runtime is dropped) and paused (its runtime is not run, and its clock jumps afterwards), as a process can.

use super::receivers::Network;
use super::stage::{Shared, with};
use super::wire;
use crate::environment::Simulated;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stormhook_engine::environment::Environment;
use stormhook_engine::lifecycle::{Lifecycle, Phase};
use stormhook_engine::store::Lane;
use stormhook_engine::writer::Space;
use stormhook_engine::{Engine, Ports, Settings};
use stormhook_postgres::{Cluster, Dial, Options, Store};
use stormhook_store::{StoreError, UnixMs};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::Instant;
use uuid::Uuid;

/// What a daemon is started with.
#[derive(Clone)]
pub(crate) struct Setup {
    /// The number of its data directory.
    pub(crate) number: u64,
    pub(crate) life: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) lease: Duration,
    pub(crate) attempt_timeout: Duration,
    /// How much a connection takes at once.
    pub(crate) room_bytes: usize,
    pub(crate) seed: u64,
}

/// How a daemon ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Stopped,
    /// Others have taken over.
    TakenOver,
    DidNotStart,
}

/// What the daemon tells the run.
#[derive(Default)]
struct Told {
    engine: Option<Engine>,
    end: Option<End>,
}

/// See the module.
pub(crate) struct Daemon {
    pub(crate) setup: Setup,
    main: LocalSet,
    runtime: Runtime,
    base: Instant,
    started_ms: u64,
    /// Up to when its clock has come.
    reached_ms: u64,
    /// Until when it is paused.
    pub(crate) paused_until_ms: u64,
    told: Arc<Mutex<Told>>,
    stop: Arc<Notify>,
    pub(crate) is_stopping: bool,
}

impl Daemon {
    pub(crate) fn start(setup: Setup, shared: &Shared, now_ms: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (told, stop) = (Arc::<Mutex<Told>>::default(), Arc::<Notify>::default());
        let base = runtime.block_on(async { instant() });
        let work = live(
            setup.clone(),
            Clock { base, now_ms },
            Arc::clone(shared),
            Arc::clone(&told),
            Arc::clone(&stop),
        );
        let main = LocalSet::new();
        main.spawn_local(work);
        Self {
            setup,
            main,
            runtime,
            base,
            started_ms: now_ms,
            reached_ms: now_ms,
            paused_until_ms: 0,
            told,
            stop,
            is_stopping: false,
        }
    }

    /// Lets it run up to this time, unless it is paused.
    pub(crate) fn run_until(&mut self, now_ms: u64) {
        if self.paused_until_ms > now_ms {
            return;
        }
        let until = self.base + Duration::from_millis(now_ms - self.started_ms);
        let behind_ms = self.paused_until_ms.saturating_sub(self.reached_ms);
        self.paused_until_ms = 0;
        self.main.block_on(&self.runtime, async {
            if behind_ms > 0 {
                tokio::time::advance(Duration::from_millis(behind_ms)).await;
            }
            tokio::time::sleep_until(until).await;
        });
        self.reached_ms = now_ms;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until_ms > 0
    }

    /// Tells it to stop in order.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        self.stop.notify_one();
    }

    /// Returns the engine, once it runs.
    pub(crate) fn engine(&self) -> Option<Engine> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.engine.clone()
    }

    pub(crate) fn end(&self) -> Option<End> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.end
    }

    /// A caller of this daemon does something.
    pub(crate) fn call(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }
}

/// A daemon's monotonic clock, beside the time of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
    now_ms: u64,
}

impl Clock {
    /// Returns the time of the run.
    pub(crate) fn now_ms(self) -> u64 {
        let passed = instant().saturating_duration_since(self.base);
        self.now_ms + u64::try_from(passed.as_millis()).unwrap()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the runtime's clock is the simulated one"
)]
fn instant() -> Instant {
    Instant::now()
}

async fn live(
    setup: Setup,
    clock: Clock,
    shared: Shared,
    told: Arc<Mutex<Told>>,
    stop: Arc<Notify>,
) {
    let life = setup.life;
    let end = match begin(&setup, clock, &shared).await {
        Ok(running) => running.until_stopped(&told, &stop).await,
        Err(error) => {
            with(&shared, |stage| {
                stage.oracle.note(format!("{life} does not start: {error}"));
            });
            End::DidNotStart
        }
    };
    told.lock().unwrap_or_else(PoisonError::into_inner).end = Some(end);
}

fn options(setup: &Setup, shared: &Shared) -> Options {
    let (life, room_bytes) = (setup.life, setup.room_bytes);
    let shared = Arc::clone(shared);
    let dial = Dial::new(move || {
        let (wire, line) = wire::connect(room_bytes);
        with(&shared, |stage| stage.database.accept(line, life));
        Box::new(wire)
    });
    Options {
        dial: Some(dial),
        schema: "model".to_owned(),
        daemon: Uuid::from_u128(u128::from(setup.number) + 1),
        version: "simulated".to_owned(),
        lease: setup.lease,
        attempt_timeout: setup.attempt_timeout,
        ..Options::new("postgres://stormhook@model/stormhook")
    }
}

/// The environment of a daemon: times are by the database's clock, as it knows it.
#[derive(Debug)]
struct OfDatabase {
    cluster: Cluster,
    random: Simulated,
}

impl Environment for OfDatabase {
    fn wall(&self) -> UnixMs {
        self.cluster.time()
    }

    fn random_u128(&self) -> u128 {
        self.random.random_u128()
    }
}

/// A daemon that runs.
struct Running {
    engine: Engine,
    life: Arc<Lifecycle>,
    writing: tokio::task::JoinHandle<()>,
}

/// Starts as `serve` does, without listeners.
async fn begin(setup: &Setup, clock: Clock, shared: &Shared) -> Result<Running, StoreError> {
    let store = Store::open(options(setup, shared)).await?;
    let life = Arc::new(Lifecycle::default());
    let environment = OfDatabase {
        cluster: store.cluster(),
        random: Simulated::new(UnixMs(0), setup.seed),
    };
    let ports = Ports {
        store: Lane::new(store, tokio::runtime::Handle::current()).into(),
        environment: Arc::new(environment),
        transport: Arc::new(Network {
            shared: Arc::clone(shared),
            life: setup.life,
            clock,
            timeout: setup.attempt_timeout,
        }),
        settings: Arc::new(Arc::clone(&setup.settings)),
        life: Arc::clone(&life),
    };
    let loaded = Engine::load(ports).await?;
    let look = || Space {
        free_bytes: u64::MAX,
        file_bytes: 0,
    };
    let (engine, mut committer) = loaded.start(|on_commit| Arc::new(on_commit), look);
    let writer = Arc::clone(engine.writer());
    let writing = tokio::spawn(async move {
        while writer.work().await {
            committer.commit_next().await;
        }
        committer.end().await;
    });
    life.go_on_to(Phase::Running);
    Ok(Running {
        engine,
        life,
        writing,
    })
}

impl Running {
    async fn until_stopped(self, told: &Mutex<Told>, stop: &Notify) -> End {
        let tell = |engine| {
            told.lock().unwrap_or_else(PoisonError::into_inner).engine = engine;
        };
        tell(Some(self.engine.clone()));
        let end = tokio::select! {
            biased;
            () = stop.notified() => End::Stopped,
            () = self.engine.writer().taken_over() => End::TakenOver,
        };
        tell(None);
        debug_assert!(!self.life.is_stopping(), "it was not told to stop before");
        self.engine.drain(std::future::pending()).await;
        self.engine.close();
        self.writing.await.expect("the writer does not panic");
        end
    }
}

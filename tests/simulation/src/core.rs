//! An engine for tests of a single situation: on a store that the test supplies, with one destination for all
//! endpoints, and a task that makes its commits.

use crate::environment::Simulated;
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::retention::Retention;
use stormhook_engine::retry::Retry;
use stormhook_engine::schedule::Limits;
use stormhook_engine::transport::{Destination, Transport};
use stormhook_engine::writer::{Free, Space};
use stormhook_engine::{Engine, Ports, Settings};
use stormhook_store::{Done, Op, Operation, Store, UnixMs, endpoint};
use tokio::task::JoinHandle;

/// A transport on which every URL leads to this destination.
struct AllTo(Arc<dyn Destination>);

impl Transport for AllTo {
    fn destination(&self, _: &endpoint::Settings) -> Result<Arc<dyn Destination>, String> {
        Ok(Arc::clone(&self.0))
    }
}

/// A command that is submitted without its hold, as if the store alone carried it out.
pub struct Unheld<C>(pub C);

impl<C: Operation> From<Unheld<C>> for Op {
    fn from(Unheld(command): Unheld<C>) -> Self {
        command.into()
    }
}

impl<C: Operation> Operation for Unheld<C> {
    type Answer = C::Answer;

    fn answer(done: Done) -> Result<C::Answer, String> {
        C::answer(done)
    }
}

impl<C: Operation> Free for Unheld<C> {}

/// The daemon's default settings.
#[must_use]
pub fn settings() -> Settings {
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
    let day = hour * 24;
    Settings {
        in_flight: Limits {
            max_in_flight: 512,
            max_per_endpoint: 32,
        },
        retry: Retry {
            schedule: vec![minute, minute * 5, minute * 30, hour * 2, day],
            jitter: 0.1,
        },
        retention: Retention {
            events: day * 30,
            attempts: day * 30,
            audit: day * 365,
        },
        disable_after: day * 5,
        signature_header: HeaderName::from_static("x-stormcom-signature"),
        excerpt_bytes: 1 << 10,
        pending_deliveries: 5_000_000,
        endpoints_per_organization: 1_000,
    }
}

/// See the module.
pub struct Core {
    /// The running engine.
    pub engine: Engine,
    /// Ends when the writer has been closed and everything is committed.
    pub commits: JoinHandle<()>,
}

impl Core {
    /// Starts the engine at this time. Panics if it makes more commits than `most`.
    ///
    /// # Panics
    /// The store can't be read.
    pub async fn start(
        store: Store,
        settings: Settings,
        destination: Arc<dyn Destination>,
        now: UnixMs,
        most: u32,
    ) -> Self {
        let ports = Ports {
            store: store.into(),
            environment: Arc::new(Simulated::new(now, 7)),
            transport: Arc::new(AllTo(destination)),
            settings: Arc::new(Arc::new(settings)),
            life: Arc::default(),
        };
        let loaded = Engine::load(ports).await;
        let look = || Space {
            free_bytes: u64::MAX,
            file_bytes: 0,
        };
        let loaded = loaded.expect("the store is readable");
        let (engine, mut committer) = loaded.start(|on_commit| Arc::new(on_commit), look);
        let queued = Arc::clone(engine.writer());
        let commits = tokio::spawn(async move {
            for _ in 0..most {
                if !queued.work().await {
                    return;
                }
                committer.commit_queued();
            }
            panic!("the engine commits without end");
        });
        Self { engine, commits }
    }
}

//! An engine for tests of single moments: on a store that the test brings, with one destination for all endpoints, its commits made by
//! a task.

use crate::environment::Simulated;
use std::sync::Arc;
use stormhook::config::{Config, LiveConfig};
use stormhook::engine::{Engine, Ports};
use stormhook::transport::{Destination, Transport};
use stormhook::writer::{Free, Space};
use stormhook_store::{Done, Op, Operation, Store, UnixMs};
use tokio::task::JoinHandle;

/// Every URL leads to this destination.
struct AllTo(Arc<dyn Destination>);

impl Transport for AllTo {
    fn destination(&self, _: &str) -> Result<Arc<dyn Destination>, String> {
        Ok(Arc::clone(&self.0))
    }

    fn reconfigure(&self, _: &Config) -> Result<(), String> {
        Ok(())
    }
}

/// A command that is submitted without what keeps attempts off the wire: as if the store alone did it.
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

/// See the module.
pub struct Core {
    /// It runs.
    pub engine: Engine,
    /// Ends when the writer was closed and all is committed.
    pub commits: JoinHandle<()>,
}

impl Core {
    /// Starts it at this time. More commits than `most` are a failure.
    ///
    /// # Panics
    /// The store can't be read.
    pub fn start(
        store: Store,
        config: Arc<Config>,
        destination: Arc<dyn Destination>,
        now: UnixMs,
        most: u32,
    ) -> Self {
        let ports = Ports {
            store,
            environment: Arc::new(Simulated::new(now, 7)),
            transport: Arc::new(AllTo(destination)),
        };
        let loaded = Engine::load(ports, LiveConfig::new(config), Arc::default());
        let look = || Space {
            free_bytes: u64::MAX,
            file_bytes: 0,
        };
        let loaded = loaded.expect("the store can be read");
        let (engine, mut committer) = loaded.start(|on_commit| Arc::new(on_commit), look);
        let queued = Arc::clone(engine.writer());
        let commits = tokio::spawn(async move {
            for _ in 0..most {
                if !queued.work().await {
                    return;
                }
                committer.commit_queued();
            }
            panic!("commits follow each other without end");
        });
        Self { engine, commits }
    }
}

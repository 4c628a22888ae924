//! The daemon's parts as its front ends see them: one place to ask, to change and to follow.
//!
//! It decides nothing: operations go to the writer, deliveries to the dispatch, questions to a reader.

use crate::config::Config;
use crate::dispatch::{CommandError, FinishedAttempt, Hold, PingError};
use crate::engine::Engine;
use crate::life::Phase;
use crate::schedule::Gauges;
use crate::target::{TargetError, TargetPolicy, TargetUrl};
use crate::writer::{Free, Pending, SubmitError};
use std::net::SocketAddr;
use std::sync::Arc;
use stormhook_store::endpoint::Seed;
use stormhook_store::{
    Attempt, Delivery, DeliveryId, Endpoint, EndpointId, NewEvent, Reader, Recover, Refusal,
    Replay, Slot, StoreError, UnixMs, UpdateEndpoint,
};
use stormhook_verifier::Secret;
use tokio::sync::broadcast;
use zeroize::Zeroizing;

/// See the module.
pub struct App {
    engine: Engine,
    own_listener: Option<SocketAddr>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

/// The randomness of the operating system could not be had.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system gave no randomness for a secret; try again")]
pub struct NoRandomness;

impl App {
    /// Front ends for an engine. `own_listener` is refused as a target.
    pub fn new(engine: Engine, own_listener: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            own_listener,
        })
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        self.engine.config.now()
    }

    /// The store's time.
    pub fn now(&self) -> UnixMs {
        self.engine.clock.now()
    }

    /// The time that what expires goes by.
    pub fn paced(&self) -> UnixMs {
        self.engine.clock.paced()
    }

    /// Carries out a command and waits for its durable commit.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit<T, C>(&self, command: C) -> Result<T, CommandError>
    where
        C: Free<Answer = Result<T, Refusal>>,
    {
        self.still_takes()?;
        Ok(self.engine.writer.submit(command).await??)
    }

    /// Whether anything is taken from callers.
    fn still_takes(&self) -> Result<(), SubmitError> {
        if self.engine.life.phase() >= Phase::Draining {
            return Err(SubmitError::ShuttingDown);
        }
        Ok(())
    }

    /// Queues an event, waiting for room: back-pressure for a stream.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub async fn enqueue(&self, event: NewEvent) -> Result<Pending<NewEvent>, SubmitError> {
        let still_takes = || self.still_takes();
        self.engine
            .writer
            .enqueue_with_room(event, still_takes)
            .await
    }

    /// Asks a reader. Blocks for as long as the question takes.
    ///
    /// # Errors
    /// The file can't be read, or what was read is damaged; the log says more.
    pub fn read<T>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, StoreError>,
    ) -> Result<T, SubmitError> {
        question(&self.engine.reader).map_err(|error| {
            tracing::error!(%error, "a read of the store failed");
            if error.is_damage() {
                SubmitError::Damaged
            } else {
                SubmitError::StoreFailed
            }
        })
    }

    /// The reader itself, for what is in memory.
    pub fn reader(&self) -> &Reader {
        &self.engine.reader
    }

    /// Keeps a delivery off the wire, to retry or cancel it.
    ///
    /// # Errors
    /// An attempt is on the wire, or the daemon is stopping.
    pub fn hold(&self, id: DeliveryId) -> Result<Hold, CommandError> {
        self.still_takes()?;
        self.engine.dispatch.hold(id)
    }

    /// A new round to one endpoint, or the first.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn replay(&self, replay: Replay) -> Result<Box<Delivery>, CommandError> {
        self.still_takes()?;
        self.engine.dispatch.replay(replay).await
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
        self.engine.dispatch.update_endpoint(update).await
    }

    /// Begins a recovery.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn recover(&self, recover: Recover) -> Result<Recover, CommandError> {
        self.still_takes()?;
        self.engine.dispatch.recover(recover).await
    }

    /// Sends a test delivery.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping(&self, endpoint: EndpointId) -> Result<Attempt, PingError> {
        self.engine.dispatch.ping(endpoint).await
    }

    /// The API's `waitingFor`.
    pub fn waiting_for(&self, delivery: &Delivery) -> Option<&'static str> {
        self.engine.dispatch.waiting_for(delivery)
    }

    /// How much waits.
    pub fn gauges(&self) -> Gauges {
        self.engine.dispatch.gauges()
    }

    /// How much waits for these endpoints.
    pub fn gauges_of(&self, endpoints: &[Slot]) -> Gauges {
        self.engine.dispatch.gauges_of(endpoints)
    }

    /// Requests with an idempotency key that wait for their commit.
    pub fn keyed_in_flight(&self) -> u64 {
        self.engine.writer.keyed_in_flight()
    }

    /// Attempts that finish from now on.
    pub fn attempts(&self) -> broadcast::Receiver<Arc<FinishedAttempt>> {
        self.engine.dispatch.attempts()
    }

    /// The policy of targets as it is now.
    pub fn target_policy(&self) -> TargetPolicy {
        TargetPolicy {
            own_listener: self.own_listener,
            ..self.config().target.clone()
        }
    }

    /// The normal form of a URL that deliveries may go to.
    ///
    /// # Errors
    /// It is no URL, or policy forbids it.
    pub fn judge_url(&self, raw: &str) -> Result<String, TargetError> {
        TargetUrl::parse(raw, &self.target_policy()).map(|url| url.as_str().to_owned())
    }

    /// A fresh secret of 32 random bytes.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new_secret(&self) -> Result<Secret, NoRandomness> {
        Ok(Secret::from_random(&*random_32()?))
    }

    /// A fresh seed of an ed25519 key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new_seed(&self) -> Result<Seed, NoRandomness> {
        Ok(Seed::from_random(&*random_32()?))
    }

    /// A fresh endpoint id.
    pub fn new_endpoint_id(&self) -> EndpointId {
        EndpointId::new(self.now(), self.engine.clock.environment().random_u128())
    }

    /// Whether events are taken and delivered, and if not, why.
    ///
    /// # Errors
    /// What it is busy with instead.
    pub fn readiness(&self) -> Result<(), &'static str> {
        match self.engine.life.phase() {
            Phase::Starting => Err("starting"),
            Phase::Running if self.engine.writer.is_damaged() => Err(
                "the store is damaged and takes no commit: stop the daemon and run `stormhook compact`, or restore a backup",
            ),
            Phase::Running if self.engine.writer.is_failing() => Err("the last commit failed"),
            Phase::Running if self.engine.writer.is_refusing() => Err(
                "the store is damaged where events are written: stop the daemon and run `stormhook compact`, or restore a backup",
            ),
            Phase::Running => Ok(()),
            Phase::Draining | Phase::Cut | Phase::Closing => Err("stopping"),
        }
    }

    /// Whether the daemon has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.engine.life.phase() >= Phase::Draining
    }

    /// Resolves when the daemon begins to stop: nothing more is taken.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.engine.life.reached(Phase::Draining)
    }

    /// Resolves when everything that was under way has ended.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.engine.life.reached(Phase::Closing)
    }
}

/// 32 bytes from the operating system's generator.
fn random_32() -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

//! Dispatch: claims what is due, has it attempted, and hands the outcome to the writer. Memory follows the commit.
//!
//! Which delivery goes next is decided in `schedule`, what an answer means in `outcome`, when the next attempt is in `retry`:
//! here these are put together around one lock. Claiming writes nothing; a claim ends when the commit that records its outcome
//! is announced. While outcomes can't be recorded, or too many wait to be, no attempt starts.

mod alarm;
mod attempt;
mod bulk;
mod changes;
mod partners;
mod timer;
mod trouble;
mod unsent;

pub use changes::Hold;

use crate::clock::StoreClock;
use crate::environment::Environment;
use crate::lifecycle::{Lifecycle, Phase};
use crate::schedule::{Gauges, InFlight, Schedule};
use crate::settings::{Settings, SettingsSource};
use crate::transport::Transport;
use crate::writer::{Committed, SubmitError, Writer};
use alarm::Alarm;
use partners::Partners;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormhook_store::{
    Applied, Attempt, Change, Delivery, DeliveryId, Done, EndpointId, Reader, Refusal, Slot, Store,
    StoreError,
};
use tokio::sync::{Notify, broadcast};
use trouble::Trouble;

/// Outcomes that may wait for their commit before no further attempt starts.
const UNSETTLED: usize = 8_192;
/// Finished attempts that a slow follower may fall behind.
const ATTEMPTS_KEPT: usize = 1_024;

/// A finished attempt, for those who follow live.
#[derive(Debug, Clone)]
pub struct FinishedAttempt {
    /// The delivery as it is after the attempt.
    pub delivery: Delivery,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Its event's type.
    pub event_type: String,
    /// The attempt.
    pub attempt: Attempt,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An attempt of the delivery, or another change of it, is in progress.
    #[error("an attempt of this delivery is in progress")]
    InFlight,
    /// It was not committed.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<InFlight> for CommandError {
    fn from(_: InFlight) -> Self {
        Self::InFlight
    }
}

/// Why a test delivery was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// There is no such endpoint.
    #[error("not found")]
    NotFound,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    ShuttingDown,
    /// The daemon lacked this for a request.
    #[error("no request could be made: {0}")]
    OurTrouble(String),
}

struct Inner {
    schedule: Schedule,
    /// The time the timer is set to, so that only an earlier one wakes it.
    alarm: Alarm,
    /// Whether something was lacking for attempts lately.
    lacking: Trouble,
    /// Whether deliveries could not be read lately.
    unreadable: Trouble,
    /// Endpoints with bulk changes that are still to be written, and the stamp of the last one that the schedule knows.
    bulk: BTreeMap<Slot, u64>,
}

/// See the module.
pub struct Dispatch {
    writer: Arc<Writer>,
    reader: Reader,
    clock: Arc<StoreClock>,
    runtime: tokio::runtime::Handle,
    settings: Arc<dyn SettingsSource>,
    transport: Arc<dyn Transport>,
    inner: Mutex<Inner>,
    partners: Partners,
    /// Discards and recovers go one at a time.
    in_bulk: Arc<tokio::sync::Mutex<()>>,
    timer: Notify,
    maintenance: Notify,
    /// Something was settled, or the wire became silent.
    settled: Notify,
    attempts: broadcast::Sender<Arc<FinishedAttempt>>,
    life: Arc<Lifecycle>,
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dispatch")
    }
}

impl Dispatch {
    /// Queues built from the file, and nothing started yet.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn new(
        store: &Store,
        writer: Arc<Writer>,
        clock: Arc<StoreClock>,
        life: Arc<Lifecycle>,
        settings: Arc<dyn SettingsSource>,
        transport: Arc<dyn Transport>,
    ) -> Result<Arc<Self>, StoreError> {
        let reader = store.reader();
        let mut schedule = Schedule::new(settings.settings().in_flight);
        let now = clock.now();
        for endpoint in reader.all_endpoints() {
            schedule.endpoint(&endpoint, Some(&reader.state(endpoint.slot)), now);
        }
        store.open_deliveries(|waiting| schedule.restore(&waiting))?;
        let bulk = reader.bulks().into_iter().collect();
        Ok(Arc::new(Self {
            writer,
            reader,
            clock,
            runtime: tokio::runtime::Handle::current(),
            settings,
            transport,
            inner: Mutex::new(Inner {
                schedule,
                alarm: Alarm::default(),
                lacking: Trouble::default(),
                unreadable: Trouble::default(),
                bulk,
            }),
            partners: Partners::default(),
            in_bulk: Arc::default(),
            timer: Notify::new(),
            maintenance: Notify::new(),
            settled: Notify::new(),
            attempts: broadcast::channel(ATTEMPTS_KEPT).0,
            life,
        }))
    }

    /// Starts the timer and `maintenance`, and claims what is due.
    pub fn start(self: &Arc<Self>, maintenance: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Arc::clone(self).run_timer());
        self.runtime.spawn(maintenance);
        self.pump(&mut self.inner());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.settings()
    }

    fn environment(&self) -> &dyn Environment {
        self.clock.environment()
    }

    /// Takes over what may change while the daemon runs: the configuration was changed just now.
    pub fn reconfigured(self: &Arc<Self>) {
        self.partners.clear();
        let mut inner = self.inner();
        inner.schedule.set_limits(self.settings().in_flight);
        self.pump(&mut inner);
        drop(inner);
        // More deliveries may wait now.
        self.maintenance.notify_one();
    }

    /// Starts every attempt that may start now.
    fn pump(self: &Arc<Self>, inner: &mut Inner) {
        let now = self.clock.now();
        while self.may_start(inner) {
            let Some(claim) = inner.schedule.next(now) else {
                break;
            };
            self.runtime.spawn(Arc::clone(self).attempt(claim));
        }
        if let Some(wake) = inner.schedule.next_wake()
            && inner.alarm.is_late_for(wake)
        {
            self.timer.notify_one();
        }
    }

    /// Whether another attempt may start.
    fn may_start(&self, inner: &Inner) -> bool {
        !self.writer.is_failing()
            && !self.is_stopping()
            && inner.schedule.claimed_count() < UNSETTLED
    }

    fn is_stopping(&self) -> bool {
        self.life.phase() >= Phase::Draining
    }

    /// Attempts that finish from now on.
    pub fn attempts(&self) -> broadcast::Receiver<Arc<FinishedAttempt>> {
        self.attempts.subscribe()
    }

    /// How much waits.
    pub fn gauges(&self) -> Gauges {
        self.inner().schedule.gauges(self.clock.now())
    }

    /// How much waits for these endpoints.
    pub fn gauges_of(&self, slots: &[Slot]) -> Gauges {
        self.inner().schedule.gauges_of(slots, self.clock.now())
    }

    /// What an open delivery waits for; `None` when it ended.
    pub fn waiting_for(&self, delivery: &Delivery) -> Option<&'static str> {
        let due = delivery.due?;
        let waiting_for = self
            .inner()
            .schedule
            .waiting_for(delivery.id, due, self.clock.now());
        Some(waiting_for.as_str())
    }

    /// Starts no further attempt; those on the wire may finish.
    pub fn drain(&self) {
        self.life.go_on_to(Phase::Draining);
        self.settled.notify_waiters();
    }

    /// Cuts what is still on the wire; it is recorded as interrupted.
    pub fn cut(&self) {
        self.life.go_on_to(Phase::Cut);
    }

    /// Waits until no attempt is on the wire and every outcome is committed.
    pub async fn drained(&self) {
        loop {
            let settled = self.settled.notified();
            if self.inner().schedule.claimed_count() == 0 {
                return;
            }
            settled.await;
        }
    }

    fn publish(&self, delivery: &Delivery) {
        if self.attempts.receiver_count() == 0 {
            return;
        }
        let (Ok(Some(event)), Some(endpoint)) = (
            self.reader.event(delivery.id.event),
            self.reader.endpoint_by_slot(delivery.id.slot),
        ) else {
            return;
        };
        if let Some(attempt) = delivery.attempts.last() {
            let finished = FinishedAttempt {
                attempt: attempt.clone(),
                delivery: delivery.clone(),
                endpoint: endpoint.id,
                event_type: event.event_type.clone(),
            };
            // Nobody may be listening any more.
            let _nobody = self.attempts.send(Arc::new(finished));
        }
    }
}

/// The dispatch as the writer's thread sees it.
pub struct OnCommit(pub Arc<Dispatch>);

impl Committed for OnCommit {
    fn committed(&self, applied: &mut Applied, settled: &[Option<DeliveryId>]) {
        let dispatch = &self.0;
        let now = dispatch.clock.now();
        let mut any_settled = false;
        let changed = !applied.changes.is_empty();
        let mut inner = dispatch.inner();
        for change in applied.changes.drain(..) {
            match change {
                Change::Waiting(waiting) => inner.schedule.waiting(&waiting),
                Change::Ended(id) => inner.schedule.ended(id),
                Change::Endpoint(endpoint) => {
                    dispatch.partners.forget(endpoint.slot);
                    if let Some(reason) = &endpoint.disabled_reason
                        && !endpoint.active
                        && inner.schedule.receives(endpoint.slot)
                    {
                        tracing::warn!(endpoint = %endpoint.id, reason, "switched an endpoint off");
                    }
                    inner.schedule.endpoint(&endpoint, None, now);
                }
                Change::Bulk(slot, bulk) => {
                    inner.bulk.insert(slot, bulk.stamp);
                    if bulk.ends() {
                        inner.schedule.end_all(slot);
                    }
                }
            }
        }
        for (done, id) in applied.done.iter().zip(settled) {
            let Some(id) = id else { continue };
            any_settled = true;
            if let Done::Settle(Ok(delivery)) = done {
                dispatch.publish(delivery);
            } else if let Some(waiting) = inner.schedule.claim_of(*id) {
                // Its row is gone or damaged. Left as it is, it would be sent again after every start.
                let what = format!("an attempt's outcome could not be recorded: {done:?}");
                let ending = Arc::clone(dispatch);
                let ended = async move { ending.end_damaged(waiting, &what).await };
                dispatch.runtime.spawn(ended);
            }
        }
        dispatch.pump(&mut inner);
        // What waits for room goes on when something changed: called by its own commits, it would try without end.
        let maintenance = any_settled || changed && !inner.bulk.is_empty();
        drop(inner);
        if maintenance {
            dispatch.maintenance.notify_one();
        }
        if any_settled {
            dispatch.settled.notify_waiters();
        }
    }

    fn set_aside(&self, delivery: DeliveryId, damage: &str) {
        tracing::error!(%delivery, damage, "an outcome could not be recorded");
        let mut inner = self.0.inner();
        inner.schedule.ended(delivery);
        self.0.pump(&mut inner);
        drop(inner);
        self.0.settled.notify_waiters();
    }

    fn failing(&self, _: bool) {
        self.0.pump(&mut self.0.inner());
        // What a failed commit stopped goes on.
        self.0.maintenance.notify_one();
    }
}

//! Dispatch: claims due deliveries, has them attempted, and hands the outcomes to the writer. Memory follows the
//! commit.
//!
//! `schedule` decides which delivery goes next, `outcome` what an answer means, and `retry` when the next attempt is.
//! Here they are put together around one lock. Claiming writes nothing; a claim ends when the commit that records its
//! outcome is announced. No attempt starts while outcomes can't be recorded or too many are unrecorded.

mod alarm;
mod attempt;
mod bulk;
mod changes;
mod moves;
mod partners;
mod paused;
mod timer;
mod trouble;
mod unsent;

pub use changes::Hold;

use crate::clock::StoreClock;
use crate::environment::Environment;
use crate::lifecycle::{Lifecycle, Phase};
use crate::schedule::{Gauges, InFlight, Schedule};
use crate::settings::{Settings, SettingsSource};
use crate::store::{Reader, Store};
use crate::transport::Transport;
use crate::writer::{Committed, SubmitError, Writer};
use alarm::Alarm;
use partners::Partners;
use paused::Paused;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormhook_store::{
    Applied, Attempt, Change, Delivery, DeliveryId, Done, EndpointId, Refusal, Slot, StoreError,
};
use tokio::sync::{Notify, broadcast};
use trouble::Trouble;

/// Claims that may wait for their commit before no further attempt starts.
const UNSETTLED: usize = 8_192;
/// Finished attempts that a slow follower may lag behind.
const ATTEMPTS_KEPT: usize = 1_024;

/// A finished attempt, for live followers.
#[derive(Debug, Clone)]
pub struct FinishedAttempt {
    /// The delivery after the attempt.
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
    /// The endpoint doesn't exist.
    #[error("not found")]
    NotFound,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    ShuttingDown,
    /// The daemon lacked this resource for the request.
    #[error("no request could be made: {0}")]
    OurTrouble(String),
}

struct Inner {
    schedule: Schedule,
    /// The time that the timer is set to, so that only an earlier one wakes it.
    alarm: Alarm,
    /// Whether attempts lacked a resource recently.
    lacking: Trouble,
    /// Whether deliveries could not be read recently.
    unreadable: Trouble,
    /// Endpoints with unfinished bulk changes, and the last stamp of each that the schedule knows.
    bulk: BTreeMap<Slot, u64>,
    /// Endpoints to which no attempt starts, since another process may still send, or will.
    paused: Paused,
    /// The types of the events whose attempts are followed, until their outcomes are committed.
    followed: HashMap<DeliveryId, String>,
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
    /// Discards and recoveries run one at a time.
    in_bulk: Arc<tokio::sync::Mutex<()>>,
    timer: Notify,
    maintenance: Notify,
    /// Notified when an outcome is settled, or the wire becomes silent.
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
    /// Builds the queues from the file. Starts nothing yet.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn new(
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
        store
            .open_deliveries(|waiting| schedule.restore(&waiting))
            .await?;
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
                paused: Paused::default(),
                followed: HashMap::new(),
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

    /// Starts the timer and `maintenance`, and the attempts that are due.
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

    /// Applies the settings after a change.
    pub fn reconfigured(self: &Arc<Self>) {
        self.partners.clear();
        let mut inner = self.inner();
        inner.schedule.set_limits(self.settings().in_flight);
        self.pump(&mut inner);
        drop(inner);
        // The limit of open deliveries may be higher now.
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
            && self.reader.may_start()
            && !self.life.is_stopping()
            && inner.schedule.claimed_count() < UNSETTLED
    }

    /// Subscribes to the attempts that finish from now on.
    pub fn attempts(&self) -> broadcast::Receiver<Arc<FinishedAttempt>> {
        self.attempts.subscribe()
    }

    /// Returns the gauges of all endpoints.
    pub fn gauges(&self) -> Gauges {
        self.inner().schedule.gauges(self.clock.now())
    }

    /// Returns the gauges of these endpoints.
    pub fn gauges_of(&self, slots: &[Slot]) -> Gauges {
        self.inner().schedule.gauges_of(slots, self.clock.now())
    }

    /// Returns what an open delivery waits for; `None` if it has ended.
    pub fn waiting_for(&self, delivery: &Delivery) -> Option<&'static str> {
        let due = delivery.due?;
        let waiting_for = self
            .inner()
            .schedule
            .waiting_for(delivery.id, due, self.clock.now());
        Some(waiting_for.as_str())
    }

    /// Starts no further attempts; those on the wire may finish.
    pub fn drain(&self) {
        self.life.go_on_to(Phase::Draining);
        self.settled.notify_waiters();
    }

    /// Cuts the attempts that are still on the wire. They are recorded as interrupted.
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

    /// Sends an attempt to its followers. One that ended before anybody followed is not known by its type.
    fn publish(&self, inner: &mut Inner, delivery: &Delivery) {
        let Some(event_type) = inner.followed.remove(&delivery.id) else {
            return;
        };
        let Some(endpoint) = self.reader.endpoint_by_slot(delivery.id.slot) else {
            return;
        };
        if let Some(attempt) = delivery.attempts.last() {
            let finished = FinishedAttempt {
                attempt: attempt.clone(),
                delivery: delivery.clone(),
                endpoint: endpoint.id,
                event_type,
            };
            // There may be no followers left.
            let _nobody = self.attempts.send(Arc::new(finished));
        }
    }
}

/// The dispatch's observer of commits, called on the writer's thread.
pub struct OnCommit(pub Arc<Dispatch>);

impl Committed for OnCommit {
    fn committed(&self, applied: &mut Applied, settled: &[Option<DeliveryId>]) {
        let dispatch = &self.0;
        let now = dispatch.clock.now();
        let mut any_settled = false;
        let mut any_purge = false;
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
                        tracing::warn!(endpoint = %endpoint.id, reason, "endpoint disabled");
                    }
                    inner.follow(&endpoint, None, now);
                }
                Change::Bulk(slot, bulk) => {
                    inner.bulk.insert(slot, bulk.stamp);
                    if bulk.ends() {
                        inner.schedule.end_all(slot);
                    }
                }
                Change::Purge(_) => any_purge = true,
                Change::Gained(gained) => {
                    any_purge |= !dispatch.reader.purges().is_empty();
                    dispatch.gain(&mut inner, *gained, now);
                }
                Change::Lost(slots) => dispatch.lose(&mut inner, &slots),
            }
        }
        for (done, id) in applied.done.iter().zip(settled) {
            let Some(id) = id else { continue };
            any_settled = true;
            if let Done::Settle(Ok(delivery)) = done {
                dispatch.publish(&mut inner, delivery);
                continue;
            }
            inner.followed.remove(id);
            if dispatch.reader.endpoint_by_slot(id.slot).is_none() {
                // Another process decides about it, and makes the attempt again.
                inner.schedule.ended(*id);
                continue;
            }
            if let Some(waiting) = inner.schedule.claim_of(*id) {
                // Its row is missing or damaged. If it stayed open, it would be sent again after every start.
                let what = format!("the outcome of an attempt could not be recorded: {done:?}");
                let ending = Arc::clone(dispatch);
                let ended = async move { ending.end_damaged(waiting, &what).await };
                dispatch.runtime.spawn(ended);
            }
        }
        dispatch.pump(&mut inner);
        // Bulk changes that wait for room continue when something has changed. If their own commits woke them, they
        // would try without end.
        let maintenance = any_settled || any_purge || changed && !inner.bulk.is_empty();
        drop(inner);
        if maintenance {
            dispatch.maintenance.notify_one();
        }
        if any_settled {
            dispatch.settled.notify_waiters();
        }
    }

    fn set_aside(&self, delivery: DeliveryId, damage: &str) {
        tracing::error!(%delivery, damage, "the outcome of an attempt could not be recorded");
        let mut inner = self.0.inner();
        inner.followed.remove(&delivery);
        inner.schedule.ended(delivery);
        self.0.pump(&mut inner);
        drop(inner);
        self.0.settled.notify_waiters();
    }

    fn failing(&self, _: bool) {
        self.0.pump(&mut self.0.inner());
        // Resumes maintenance that a failed commit stopped.
        self.0.maintenance.notify_one();
    }
}

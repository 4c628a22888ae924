//! The oracle: it sees every announced commit, every request that reached a receiver and every answer to a caller, and
//! reports those that violate the contract.
//!
//! It keeps a mirror of its own of what was announced, and compares: each commit with the allowed changes, each request
//! with what was announced before it, and after a restart the file with everything ever announced.

mod causes;
mod commits;
mod damage;
mod deep;
mod everything;
mod rules;
mod seen;
mod states;
mod wire;

use crate::notes::Notes;
use crate::plan::Plan;
use crate::tally::Tally;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::clock::StoreClock;
use stormhook_store::stats::Counters;
use stormhook_store::{
    AttemptOutcome, Delivery, DeliveryId, Endpoint, EndpointState, Event, EventId, Reader, Slot,
    UnixMs,
};
use tokio::time::Instant;
pub(crate) use wire::Observed;

/// More commits than any run makes unless something commits without end.
pub(crate) const MOST_COMMITS: u64 = 100_000;

/// The result of an attempt, as the transport reported it.
#[derive(Clone, Copy, Debug)]
struct Told {
    outcome: AttemptOutcome,
    code: Option<u16>,
    life: u64,
    at_ms: u64,
    /// The store's time then.
    store_ms: u64,
    /// The sum of the wall clock's jumps ahead until then, in milliseconds.
    jumped_ms: u64,
    /// The receiver's `Retry-After` in seconds, if it counts.
    retry_after_s: Option<u64>,
}

/// One request that reached a receiver.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: u32,
    life: u64,
}

/// When a delivery's last counted attempt was recorded, to check that the next is not early.
#[derive(Clone, Copy, Debug)]
struct Waits {
    since_ms: u64,
    jumped_ms: u64,
    delay_ms: u64,
}

/// The oracle's access to the running daemon.
struct Life {
    reader: Reader,
    clock: Arc<StoreClock>,
    started: Instant,
}

/// See the module.
pub(crate) struct Oracle {
    plan: Plan,
    life: Option<Life>,
    /// The number of lives so far.
    lives: u64,
    /// Whether the power is off: nothing that the process still does is visible.
    pub(crate) dead: bool,
    before_ms: u64,
    /// The sum of the wall clock's jumps ahead, in milliseconds.
    jumped_ms: u64,
    /// The paced time of the last commit, and the time since the start of the run by a clock that never jumps.
    expiry: (UnixMs, u64),
    /// When it was announced.
    announced_ms: u64,

    commit: u64,
    pub(crate) deliveries: BTreeMap<DeliveryId, Delivery>,
    pub(crate) endpoints: BTreeMap<Slot, Arc<Endpoint>>,
    pub(crate) events: BTreeMap<EventId, Arc<Event>>,
    last_sequence: BTreeMap<Slot, u64>,
    states: BTreeMap<Slot, EndpointState>,
    counters: Counters,
    /// How many generations the file had created and how many it had dropped, at the last commit.
    generations: (u64, u64),
    keys: BTreeMap<(String, String), EventId>,
    /// By the number in each event's data: how often it was submitted, less the times that nothing was stored.
    handed_over: BTreeMap<u64, u32>,
    /// Lives that did not end with an orderly stop.
    killed: BTreeSet<u64>,

    requests: BTreeMap<DeliveryId, Vec<Request>>,
    bodies: BTreeMap<DeliveryId, u64>,
    told: BTreeMap<(DeliveryId, u32), Told>,
    asked: causes::Asked,
    damage: damage::Damage,
    waits: BTreeMap<DeliveryId, Waits>,
    under_way: BTreeMap<DeliveryId, u32>,
    on_wire: BTreeMap<String, usize>,
    /// Claimed, as receivers see it: from the start of an attempt to the commit that records it.
    flying: BTreeSet<DeliveryId>,
    fifo_from: BTreeMap<Slot, u64>,
    /// Arrivals of requests to endpoints with a rate limit, and the time from which they count.
    paced: BTreeMap<Slot, (u64, VecDeque<u64>)>,

    pub(crate) tally: Tally,
    pub(crate) notes: Notes,
}

impl Oracle {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            life: None,
            lives: 0,
            dead: false,
            before_ms: 0,
            jumped_ms: 0,
            expiry: (UnixMs(0), 0),
            announced_ms: 0,
            commit: 0,
            deliveries: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            events: BTreeMap::new(),
            last_sequence: BTreeMap::new(),
            states: BTreeMap::new(),
            counters: Counters::default(),
            generations: (0, 0),
            keys: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            killed: BTreeSet::new(),
            requests: BTreeMap::new(),
            bodies: BTreeMap::new(),
            told: BTreeMap::new(),
            asked: causes::Asked::default(),
            damage: damage::Damage::default(),
            waits: BTreeMap::new(),
            under_way: BTreeMap::new(),
            on_wire: BTreeMap::new(),
            flying: BTreeSet::new(),
            fifo_from: BTreeMap::new(),
            paced: BTreeMap::new(),
            tally: Tally::default(),
            notes: Notes::default(),
        }
    }

    /// The process starts. Its memory is new, and is compared with everything that was announced.
    pub(crate) fn begins(&mut self, reader: Reader, clock: Arc<StoreClock>, crashed: bool) {
        self.lives += 1;
        self.dead = false;
        self.life = Some(Life {
            reader,
            clock,
            started: instant(),
        });
        self.on_wire.clear();
        self.under_way.clear();
        self.flying.clear();
        self.paced.clear();
        self.restarted(crashed);
        self.nobody_asks();
    }

    /// The process has ended.
    pub(crate) fn ends(&mut self, away: Duration, in_good_order: bool) {
        if !in_good_order {
            self.killed.insert(self.lives);
        }
        self.before_ms = self.now_ms() + millis(away);
        self.life = None;
    }

    /// Returns the milliseconds since the run began, by a clock that never jumps.
    pub(crate) fn now_ms(&self) -> u64 {
        let passed = self.life.as_ref().map_or(Duration::ZERO, |life| {
            instant().saturating_duration_since(life.started)
        });
        self.before_ms + millis(passed)
    }

    fn store_ms(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.clock.now().0)
    }

    pub(crate) fn jumps_ahead(&mut self, ms: u64) {
        self.jumped_ms += ms;
        self.paced.clear();
    }

    /// Notes an event of the run.
    pub(crate) fn note(&mut self, what: impl AsRef<str>) {
        self.notes.note(self.now_ms(), what.as_ref());
    }

    /// The contract was violated. Only the first violation counts.
    pub(crate) fn violated(&mut self, what: impl AsRef<str>) {
        self.notes.violated(self.now_ms(), what.as_ref());
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.notes.violation()
    }

    /// Whether this run has nothing more to check.
    pub(crate) fn run_is_over(&self) -> bool {
        self.notes.violation().is_some() || self.has_given_up()
    }

    pub(crate) fn trace(&self) -> u64 {
        self.notes.trace()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the runtime's clock is the simulated one"
)]
fn instant() -> Instant {
    Instant::now()
}

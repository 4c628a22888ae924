//! What readers are told of the queues. Changes nothing and is exact at the moment it is asked.

use super::Schedule;
use super::queue::Queue;
use stormhook_store::{DeliveryId, Slot, UnixMs};

/// What an open delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its time.
    Schedule,
    /// The partner's answer.
    InFlight,
    /// Its endpoint's activation.
    EndpointInactive,
    /// A free place among the attempts under way.
    Concurrency,
    /// Its endpoint's rate limit.
    RateLimit,
    /// One that comes before it.
    FifoPredecessor,
}

impl WaitingFor {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::InFlight => "in_flight",
            Self::EndpointInactive => "endpoint_inactive",
            Self::Concurrency => "concurrency",
            Self::RateLimit => "rate_limit",
            Self::FifoPredecessor => "fifo_predecessor",
        }
    }
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Open deliveries of active endpoints before the first failed attempt of their round, those in flight included.
    pub pending: usize,
    /// The same after it.
    pub retrying: usize,
    /// Open deliveries of inactive endpoints.
    pub held: usize,
    /// Attempts on the wire.
    pub in_flight: usize,
    /// How long the oldest due delivery of an active endpoint has been waiting for its attempt, in milliseconds.
    pub overdue_ms: u64,
}

impl Schedule {
    /// What an open delivery that is due at `due` waits for.
    pub fn waiting_for(&self, id: DeliveryId, due: UnixMs, now: UnixMs) -> WaitingFor {
        if self.flights.contains_key(&id) {
            return WaitingFor::InFlight;
        }
        let queue = self.queues.get(id.slot.index()).and_then(Option::as_ref);
        let Some(queue) = queue.filter(|queue| queue.receives) else {
            return WaitingFor::EndpointInactive;
        };
        if due > now {
            return WaitingFor::Schedule;
        }
        let in_line = queue.is_fifo() && queue.claimed.sum() > 0;
        if in_line || queue.backlog.has_before(id.event) {
            return WaitingFor::FifoPredecessor;
        }
        if queue.bucket.is_some_and(|mut b| b.ready_at(now).is_some()) {
            return WaitingFor::RateLimit;
        }
        WaitingFor::Concurrency
    }

    /// How much waits in all.
    pub fn gauges(&self, now: UnixMs) -> Gauges {
        gauges(self.queues.iter().flatten().map(Box::as_ref), now)
    }

    /// How much waits for these endpoints.
    pub fn gauges_of(&self, slots: &[Slot], now: UnixMs) -> Gauges {
        let queues = slots
            .iter()
            .filter_map(|slot| self.queues.get(slot.index()));
        gauges(queues.flatten().map(Box::as_ref), now)
    }

    /// Open deliveries, those in flight included.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Attempts on the wire.
    pub fn on_wire(&self) -> usize {
        self.admission.total()
    }

    /// Pairs that are claimed: on the wire, or answered and not yet committed.
    pub fn claimed_count(&self) -> usize {
        self.flights.len()
    }
}

fn gauges<'a>(queues: impl Iterator<Item = &'a Queue>, now: UnixMs) -> Gauges {
    let mut all = Gauges::default();
    for queue in queues {
        all.in_flight += queue.on_wire;
        if !queue.receives {
            all.held += queue.open();
            continue;
        }
        all.pending += queue.waits.pending + queue.claimed.pending;
        all.retrying += queue.waits.retrying + queue.claimed.retrying;
        if let Some(due) = queue.backlog.earliest_due() {
            all.overdue_ms = all.overdue_ms.max(now.since_ms(due));
        }
    }
    all
}

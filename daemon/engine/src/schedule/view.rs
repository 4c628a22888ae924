//! What readers see of the queues. Changes nothing, and is exact at the moment of the call.

use super::Schedule;
use super::queue::Queue;
use stormhook_store::{DeliveryId, Slot, UnixMs};

/// What an open delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its due time.
    Schedule,
    /// The receiver's response.
    InFlight,
    /// Its endpoint's being enabled.
    EndpointInactive,
    /// A free place among the attempts in flight.
    Concurrency,
    /// Its endpoint's rate limit.
    RateLimit,
    /// An earlier delivery of its FIFO endpoint.
    FifoPredecessor,
}

impl WaitingFor {
    /// Returns the name in the API.
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

/// The gauges of the queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Open deliveries of enabled endpoints before the first failed attempt of their round, including those in flight.
    pub pending: usize,
    /// The same after the first failed attempt.
    pub retrying: usize,
    /// Open deliveries of disabled endpoints.
    pub held: usize,
    /// Attempts on the wire.
    pub in_flight: usize,
    /// How long the oldest due delivery of an enabled endpoint has been waiting for its attempt, in milliseconds.
    pub overdue_ms: u64,
}

impl Schedule {
    /// Returns what an open delivery that is due at `due` waits for.
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

    /// Returns the gauges of all endpoints.
    pub fn gauges(&self, now: UnixMs) -> Gauges {
        gauges(self.queues.iter().flatten().map(Box::as_ref), now)
    }

    /// Returns the gauges of these endpoints.
    pub fn gauges_of(&self, slots: &[Slot], now: UnixMs) -> Gauges {
        let queues = slots
            .iter()
            .filter_map(|slot| self.queues.get(slot.index()));
        gauges(queues.flatten().map(Box::as_ref), now)
    }

    /// Returns the number of open deliveries, including those in flight.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Returns the number of attempts on the wire.
    pub fn on_wire(&self) -> usize {
        self.admission.total()
    }

    /// Returns the number of claimed deliveries: on the wire, or answered and not yet committed.
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

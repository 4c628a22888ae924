//! Which delivery goes next: fair over endpoints, limited per endpoint and in total.
//!
//! Every open delivery waits in memory, in its endpoint's queue. A delivery in flight is claimed until the commit that
//! records its outcome is announced, so it is never attempted twice at the same time. Pure: no I/O, no clock, no
//! randomness. The caller applies the store's changes in commit order, and every decision follows from them and from
//! `now`. Whether a failed attempt is tried again is not decided here.

mod admission;
mod backoff;
mod bucket;
mod delivery_queue;
mod entry;
mod held;
mod moves;
mod postponed;
mod queue;
#[cfg(test)]
mod tests;
mod turns;
mod view;

pub use admission::Limits;
use admission::{Admission, YOUNG_MS};
use backoff::Backoff;
use entry::Entry;
use postponed::Postponed;
use queue::{Class, Queue};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use stormhook_store::{DeliveryId, Endpoint, EndpointState, QueueEntry, Slot, UnixMs};
use turns::Look;
pub use view::{Gauges, WaitingFor};

/// An attempt that takes this long makes its endpoint slow.
pub const SLOW_AFTER_MS: u64 = 1_000;

/// Capacity for this many starts is kept when there are none.
const STARTED_KEPT: usize = 4_096;

/// A delivery to attempt now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The delivery, as it was when it was claimed.
    pub waiting: QueueEntry,
    /// Whether its endpoint is known to be slow.
    pub slow: bool,
}

/// The delivery is being attempted, or another change holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an attempt of this delivery, or another change to it, is in progress; retry when it is over"
)]
pub struct InFlight;

/// A claimed delivery.
struct Flight {
    entry: Entry,
    started: UnixMs,
    on_wire: bool,
    /// Whether a bulk change has ended it since.
    over: bool,
}

/// The queues of all endpoints.
pub struct Schedule {
    /// By slot. Slots are never reused: a removed endpoint leaves an empty place.
    queues: Vec<Option<Box<Queue>>>,
    endpoints: usize,
    open: usize,
    admission: Admission,
    flights: HashMap<DeliveryId, Flight>,
    /// Deliveries that an operator's change holds, with their entries once their turn came.
    held: HashMap<DeliveryId, Option<Entry>>,
    postponed: Postponed,
    /// When to look at an endpoint again; void if its queue has another time.
    timers: BinaryHeap<Reverse<(UnixMs, Slot)>>,
    /// Attempts by start, to find those that pass [`SLOW_AFTER_MS`]; void if the flight has another start.
    started: VecDeque<(UnixMs, DeliveryId)>,
    /// The same for newcomers, to find those that pass [`YOUNG_MS`].
    young: VecDeque<(UnixMs, DeliveryId)>,
}

impl Schedule {
    /// Returns an empty schedule.
    pub fn new(limits: Limits) -> Self {
        Self {
            queues: Vec::new(),
            endpoints: 0,
            open: 0,
            admission: Admission::new(limits),
            flights: HashMap::new(),
            held: HashMap::new(),
            postponed: Postponed::default(),
            timers: BinaryHeap::new(),
            started: VecDeque::new(),
            young: VecDeque::new(),
        }
    }

    /// Changes the limits. Attempts in flight beyond them stay.
    pub fn set_limits(&mut self, limits: Limits) {
        self.admission.set_limits(limits);
        for slot in self.slots() {
            self.touch(slot);
        }
    }

    /// An endpoint is new, read at start, or changed. `state` is how it does according to the store; it is used only if
    /// nothing is known here yet.
    pub fn endpoint(&mut self, endpoint: &Endpoint, state: Option<&EndpointState>, now: UnixMs) {
        let slot = endpoint.slot;
        // In a FIFO queue a held delivery keeps its place in the queue.
        self.put_back(slot);
        let queue = self.queue_or_new(slot);
        queue.configure(endpoint, now);
        if !queue.receives {
            queue.stamp = None;
            queue.wake = None;
        }
        if let Some(state) = state
            && queue.class == Class::Unknown
            && queue.on_wire == 0
            && state.failure_count == 0
            && state.last_success_at.is_some()
        {
            queue.class = Class::Fast;
            queue.stamp = None;
        }
        self.touch(slot);
        self.drop_if_over(slot);
    }

    /// A delivery is open, or its due time changed: `Change::Waiting`. Ends its claim.
    pub fn waiting(&mut self, waiting: &QueueEntry) {
        self.postponed.forget(waiting.id);
        self.wait_as(waiting);
    }

    fn wait_as(&mut self, waiting: &QueueEntry) {
        let slot = waiting.id.slot;
        self.counted(slot, |this| {
            if !this.end_claim(waiting.id)
                && !this.drop_stash(waiting.id)
                && let Some(queue) = this.queue_mut(slot)
                && !queue.is_surely_new(waiting)
            {
                queue.remove(waiting.id.event);
            }
            this.queue_or_new(slot).add(Entry::new(waiting));
        });
        self.touch(slot);
    }

    /// Like [`Schedule::waiting`], for reading the store at start. The delivery must not be here yet.
    pub fn restore(&mut self, waiting: &QueueEntry) {
        let slot = waiting.id.slot;
        self.counted(slot, |this| {
            this.queue_or_new(slot).add(Entry::new(waiting));
        });
        self.touch(slot);
    }

    /// A delivery ended: `Change::Ended`. Ends its claim.
    pub fn ended(&mut self, id: DeliveryId) {
        self.postponed.forget(id);
        self.counted(id.slot, |this| {
            if !this.end_claim(id)
                && !this.drop_stash(id)
                && let Some(queue) = this.queue_mut(id.slot)
            {
                queue.remove(id.event);
            }
        });
        self.touch(id.slot);
        self.drop_if_over(id.slot);
    }

    /// All open deliveries of this endpoint have ended: `Change::Bulk`. Claimed ones stay claimed until their outcome
    /// is recorded; if they are given back, they have ended too.
    pub fn end_all(&mut self, slot: Slot) {
        self.counted(slot, |this| {
            this.put_back(slot);
            if let Some(queue) = this.queue_mut(slot) {
                queue.clear();
            }
        });
        for (id, flight) in &mut self.flights {
            flight.over |= id.slot == slot;
        }
        self.postponed.forget_all(slot);
        self.touch(slot);
        self.drop_if_over(slot);
    }

    /// No attempt was made: the delivery waits as before, unless all deliveries of its endpoint have ended meanwhile.
    /// Ends the claim.
    pub fn give_back(&mut self, waiting: &QueueEntry) {
        self.postponed.forget(waiting.id);
        self.wait_again(waiting);
    }

    fn wait_again(&mut self, waiting: &QueueEntry) {
        self.not_sent(waiting.id);
        if self
            .flights
            .get(&waiting.id)
            .is_some_and(|flight| flight.over)
        {
            self.ended(waiting.id);
        } else {
            self.wait_as(waiting);
        }
    }

    /// Claims the delivery to attempt next, if there is one. Call it until it returns `None`.
    pub fn next(&mut self, now: UnixMs) -> Option<Claim> {
        self.note_grown(now);
        self.note_overdue(now);
        self.fire_timers(now);
        if self.postponed.pauses(now) {
            return None;
        }
        loop {
            let queues = &self.queues;
            let slot = self
                .admission
                .next(|slot, stamp| is_valid(queues, slot, stamp))?;
            self.queue_mut(slot)?.stamp = None;
            match self.look(slot, now) {
                Look::Ready => {
                    if let Some(claim) = self.claim(slot, now) {
                        return Some(claim);
                    }
                }
                Look::At(at) => self.wake_at(slot, at),
                Look::Nothing => {}
            }
        }
    }

    /// After [`Schedule::next`] returned `None`: the earliest time at which it may return more if nothing else happens.
    /// It may return `None` again, which costs one more call.
    pub fn next_wake(&self) -> Option<UnixMs> {
        if self.admission.is_full() {
            return None;
        }
        if let Some(until) = self.postponed.pause() {
            return Some(until);
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        // Once a newcomer's first attempt counts as slow, it may start another.
        let oldest = self.started.front().filter(|_| self.admission.probes() > 0);
        let known = oldest.map(|(started, _)| started.plus_ms(SLOW_AFTER_MS));
        // Before that, the next newcomer may start one.
        let youngest = self
            .young
            .front()
            .filter(|_| self.admission.have_newcomers());
        let grown = youngest.map(|(started, _)| started.plus_ms(YOUNG_MS));
        [timer, known, grown].into_iter().flatten().min()
    }

    /// The attempt ended after `took_ms`. Its place is free; the delivery stays claimed until the commit that records
    /// the outcome is announced by [`Schedule::waiting`] or [`Schedule::ended`].
    pub fn answered(&mut self, id: DeliveryId, took_ms: u64) {
        match self.flights.get_mut(&id) {
            Some(flight) if flight.on_wire => flight.on_wire = false,
            _ => return,
        }
        self.postponed.readable();
        if let Some(queue) = queue_of(&mut self.queues, id.slot) {
            queue.backoff = Backoff::default();
            self.admission.finish(queue);
            let class = if took_ms < SLOW_AFTER_MS {
                Class::Fast
            } else {
                Class::Slow
            };
            self.admission.reclass(queue, class);
        }
        self.touch(id.slot);
    }

    /// The attempt ended before it was sent: its place is free, and nothing new is known of its endpoint. The delivery
    /// stays claimed until [`Schedule::waiting`] or [`Schedule::ended`].
    pub fn not_sent(&mut self, id: DeliveryId) {
        if let Some(flight) = self.flights.get_mut(&id)
            && std::mem::take(&mut flight.on_wire)
            && let Some(queue) = queue_of(&mut self.queues, id.slot)
        {
            self.admission.finish(queue);
        }
    }

    /// No attempt was made because the daemon lacked a resource, which may affect every attempt to the endpoint. Its
    /// deliveries keep their places and their order and are tried again after a while, one attempt first. Ends the
    /// claim.
    pub fn set_back(&mut self, waiting: &QueueEntry, now: UnixMs) {
        self.postponed.readable();
        if let Some(queue) = self.queue_mut(waiting.id.slot) {
            queue.backoff.wait(now);
        }
        self.give_back(waiting);
    }

    /// Whether attempts to this endpoint may start.
    pub fn receives(&self, slot: Slot) -> bool {
        let queue = self.queues.get(slot.index()).and_then(Option::as_ref);
        queue.is_some_and(|queue| queue.receives)
    }

    /// Whether a bulk change has ended a delivery of this endpoint that is still claimed.
    pub fn has_ended_claims(&self, slot: Slot) -> bool {
        let mut of_slot = self.flights.iter().filter(|(id, _)| id.slot == slot);
        of_slot.any(|(_, flight)| flight.over)
    }

    /// Whether this delivery is claimed.
    pub fn is_claimed(&self, id: DeliveryId) -> bool {
        self.flights.contains_key(&id)
    }

    /// Returns the delivery if it is claimed.
    pub fn claim_of(&self, id: DeliveryId) -> Option<QueueEntry> {
        let flight = self.flights.get(&id)?;
        Some(flight.entry.waiting(id.slot))
    }
}

impl Schedule {
    fn slots(&self) -> Vec<Slot> {
        self.queues
            .iter()
            .flatten()
            .map(|queue| queue.slot)
            .collect()
    }

    fn queue_mut(&mut self, slot: Slot) -> Option<&mut Queue> {
        queue_of(&mut self.queues, slot)
    }

    fn queue_or_new(&mut self, slot: Slot) -> &mut Queue {
        let index = slot.index();
        if self.queues.len() <= index {
            self.queues.resize_with(index + 1, || None);
        }
        let endpoints = &mut self.endpoints;
        self.queues[index].get_or_insert_with(|| {
            *endpoints += 1;
            Box::new(Queue::new(slot))
        })
    }

    /// Runs a change of one endpoint's queue and updates the total count.
    fn counted<R>(&mut self, slot: Slot, change: impl FnOnce(&mut Self) -> R) -> R {
        let count = |this: &mut Self| this.queue_mut(slot).map_or(0, |queue| queue.open());
        let before = count(self);
        let result = change(self);
        self.open = (self.open + count(self)).saturating_sub(before);
        result
    }

    fn drop_if_over(&mut self, slot: Slot) {
        if self.queue_mut(slot).is_some_and(|queue| queue.is_over())
            && let Some(place) = self.queues.get_mut(slot.index())
        {
            *place = None;
            self.endpoints = self.endpoints.saturating_sub(1);
        }
    }

    /// Ends the claim of a delivery. Returns false if it has none.
    fn end_claim(&mut self, id: DeliveryId) -> bool {
        let Some(flight) = self.flights.remove(&id) else {
            return false;
        };
        if let Some(queue) = queue_of(&mut self.queues, id.slot) {
            queue.claimed.remove(flight.entry);
            if flight.on_wire {
                self.admission.finish(queue);
            }
        }
        true
    }
}

fn queue_of(queues: &mut [Option<Box<Queue>>], slot: Slot) -> Option<&mut Queue> {
    queues.get_mut(slot.index())?.as_deref_mut()
}

fn is_valid(queues: &[Option<Box<Queue>>], slot: Slot, stamp: u64) -> bool {
    let queue = queues.get(slot.index()).and_then(Option::as_ref);
    queue.is_some_and(|queue| queue.stamp == Some(stamp))
}

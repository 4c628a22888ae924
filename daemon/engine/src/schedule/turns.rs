//! Whose turn it is: when an endpoint joins a ring, what it can send when its turn comes, and what changes with time
//! alone.

use super::admission::YOUNG_MS;
use super::entry::Entry;
use super::queue::Class;
use super::{Claim, Flight, SLOW_AFTER_MS, STARTED_KEPT, Schedule, is_valid, queue_of};
use std::cmp::Reverse;
use stormhook_store::{DeliveryId, Slot, UnixMs};

/// What an endpoint's queue can send.
pub(super) enum Look {
    Ready,
    At(UnixMs),
    Nothing,
}

impl Schedule {
    /// Puts an endpoint in a ring, if it may have something to send and may send it.
    pub(super) fn touch(&mut self, slot: Slot) {
        let Some(queue) = queue_of(&mut self.queues, slot) else {
            return;
        };
        // A newcomer that now has much to send moves up.
        let moves_up = queue.is_eager() && !queue.stands_eager;
        let stands = queue.stamp.is_some() && !moves_up;
        let stands = stands || !queue.receives || queue.backlog.is_empty();
        if stands || queue.is_taken() || !self.admission.has_room(queue) {
            return;
        }
        self.admission.join(queue);
        let queues = &self.queues;
        self.admission
            .sweep(self.endpoints, |slot, stamp| is_valid(queues, slot, stamp));
    }

    /// Returns what an endpoint can send when its turn comes.
    pub(super) fn look(&mut self, slot: Slot, now: UnixMs) -> Look {
        let Some(queue) = queue_of(&mut self.queues, slot) else {
            return Look::Nothing;
        };
        if !queue.receives || queue.is_taken() || !self.admission.has_room(queue) {
            return Look::Nothing;
        }
        while let Some(first) = queue.backlog.first(now) {
            if first.due() > now {
                return Look::At(first.due());
            }
            let event = first.event();
            if let Some(stash) = self.held.get_mut(&DeliveryId { event, slot }) {
                if queue.is_fifo() {
                    return Look::Nothing;
                }
                *stash = queue.backlog.pop();
                continue;
            }
            if let Some(until) = queue.backoff.waiting(now) {
                return Look::At(until);
            }
            let token = queue.bucket.as_mut().and_then(|b| b.ready_at(now));
            return token.map_or(Look::Ready, Look::At);
        }
        Look::Nothing
    }

    pub(super) fn claim(&mut self, slot: Slot, now: UnixMs) -> Option<Claim> {
        let queue = queue_of(&mut self.queues, slot)?;
        let entry = queue.backlog.pop()?;
        queue.waits.remove(entry);
        queue.claimed.add(entry);
        if let Some(bucket) = &mut queue.bucket {
            bucket.take(now);
        }
        self.admission.start(queue);
        let slow = queue.class == Class::Slow;
        let is_young = queue.young;
        let waiting = self.postponed.as_stored(entry.waiting(slot));
        let flight = Flight {
            entry: Entry::new(&waiting),
            started: now,
            on_wire: true,
            over: false,
        };
        self.flights.insert(waiting.id, flight);
        self.started.push_back((now, waiting.id));
        if is_young {
            self.young.push_back((now, waiting.id));
        }
        self.touch(slot);
        Some(Claim { waiting, slow })
    }

    /// Newcomers that have not answered yet make room for the next ones.
    pub(super) fn note_grown(&mut self, now: UnixMs) {
        while let Some(&(started, id)) = self.young.front() {
            let flight = self.flights.get(&id);
            if flight.is_some_and(|f| f.on_wire && f.started == started) {
                // As below: if the clock went back, the difference tells nothing.
                if now.0.abs_diff(started.0) < YOUNG_MS {
                    return;
                }
                if let Some(queue) = queue_of(&mut self.queues, id.slot) {
                    self.admission.grown(queue);
                }
            }
            self.young.pop_front();
        }
    }

    /// Marks endpoints as slow whose attempts have been on the wire for too long.
    pub(super) fn note_overdue(&mut self, now: UnixMs) {
        while let Some(&(started, id)) = self.started.front() {
            let flight = self.flights.get(&id);
            if flight.is_some_and(|f| f.on_wire && f.started == started) {
                // If the clock went back, the duration is unknown: better slow than unknown forever.
                if now.0.abs_diff(started.0) < SLOW_AFTER_MS {
                    return;
                }
                if let Some(queue) = queue_of(&mut self.queues, id.slot) {
                    self.admission.reclass(queue, Class::Slow);
                }
                self.touch(id.slot);
            }
            self.started.pop_front();
        }
        if self.started.capacity() > STARTED_KEPT {
            self.started.shrink_to(STARTED_KEPT);
        }
    }

    /// Puts endpoints in a ring whose time has come.
    pub(super) fn fire_timers(&mut self, now: UnixMs) {
        while let Some(&Reverse((at, slot))) = self.timers.peek() {
            let queue = queue_of(&mut self.queues, slot).filter(|queue| queue.wake == Some(at));
            if let Some(queue) = queue {
                if at > now {
                    return;
                }
                queue.wake = None;
                self.touch(slot);
            }
            self.timers.pop();
        }
    }

    pub(super) fn wake_at(&mut self, slot: Slot, at: UnixMs) {
        let Some(queue) = queue_of(&mut self.queues, slot) else {
            return;
        };
        if queue.wake.is_some_and(|earlier| earlier <= at) {
            return;
        }
        queue.wake = Some(at);
        self.timers.push(Reverse((at, slot)));
        if self.timers.len() > 2 * self.endpoints + 64 {
            let queues = &self.queues;
            self.timers.retain(|Reverse((at, slot))| {
                let queue = queues.get(slot.index()).and_then(Option::as_ref);
                queue.is_some_and(|queue| queue.wake == Some(*at))
            });
        }
    }
}

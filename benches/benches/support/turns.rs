//! A schedule with a constant number of open deliveries, all of them due.

use super::fixture::{self, Draw, NOW};
use std::collections::VecDeque;
use stormhook_engine::schedule::{Limits, Schedule};
use stormhook_store::{DeliveryId, EndpointState, QueueEntry, Slot, UnixMs};

pub(crate) struct Turns {
    schedule: Schedule,
    under_way: VecDeque<DeliveryId>,
    endpoints: u32,
    sequence: u64,
    draw: Draw,
}

impl Turns {
    /// Creates `waiting` deliveries over this many endpoints that answer well, and `in_flight` attempts in addition.
    pub(crate) fn new(endpoints: u32, waiting: u64, in_flight: usize) -> Self {
        let mut turns = Self {
            schedule: Schedule::new(Limits {
                max_in_flight: 512,
                max_per_endpoint: 32,
            }),
            under_way: VecDeque::new(),
            endpoints,
            sequence: 0,
            draw: Draw::seeded(7),
        };
        let healthy = EndpointState {
            last_success_at: Some(NOW),
            ..EndpointState::default()
        };
        for slot in 0..endpoints {
            let endpoint = fixture::endpoint(Slot(slot), None);
            turns.schedule.endpoint(&endpoint, Some(&healthy), NOW);
        }
        for _ in 0..waiting + in_flight as u64 {
            let next = turns.next();
            turns.schedule.restore(&next);
        }
        for _ in 0..in_flight {
            turns.claim();
        }
        turns
    }

    fn next(&mut self) -> QueueEntry {
        let slot =
            Slot(u32::try_from(self.draw.next() % u64::from(self.endpoints)).expect("one of them"));
        self.sequence += 1;
        let due = UnixMs(NOW.0 + self.sequence / 16);
        fixture::waiting(slot, self.sequence, due, &mut self.draw)
    }

    fn claim(&mut self) {
        let now = UnixMs(NOW.0 + self.sequence);
        let claim = self
            .schedule
            .next(now)
            .expect("all are due and none is full");
        self.under_way.push_back(claim.waiting.id);
    }

    /// One is added, one is claimed, one ends.
    pub(crate) fn turn(&mut self) {
        let next = self.next();
        self.schedule.waiting(&next);
        self.claim();
        if let Some(oldest) = self.under_way.pop_front() {
            self.schedule.answered(oldest, 5);
            self.schedule.ended(oldest);
        }
    }
}

//! What must hold of all daemons together: it sees each commit as the database has it, each request as its receiver reads
//! it, and each answer to a caller, and reports those that violate the contract.

mod commits;
mod ends;
mod requests;

pub(crate) use requests::Observed;

use crate::notes::Notes;
use crate::tally::tally;
use std::collections::{BTreeMap, BTreeSet};
use stormhook_store::{DeliveryId, EventId, Slot};

/// What is known of a life of a daemon.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    /// Its seat and incarnation, once it has one.
    seat: Option<(i16, i64)>,
    /// Others have taken over from it.
    is_fenced: bool,
    /// It has left its seat.
    has_left: bool,
    /// Its process has ended.
    has_ended: bool,
}

impl Life {
    /// Whether others have taken over from it, or it has ended without leaving its seat: killed, or out of reach of the
    /// database when it stopped. Then attempts may not be recorded.
    fn is_lost(self) -> bool {
        self.is_fenced || (self.has_ended && !self.has_left)
    }
}

/// What a caller was told about its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Stored(EventId),
    NotStored,
}

/// A request to a receiver.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: u32,
    life: u64,
    /// When the receiver is done with it.
    done_ms: u64,
    accepts: bool,
}

tally! {
    /// Commits that changed events or deliveries.
    commits,
    /// Acknowledged events.
    acknowledged,
    /// Deliveries that have ended.
    deliveries,
    /// Requests that reached receivers.
    requests,
    /// Of these, repeats of the same attempt.
    repeated,
    /// Daemons that were killed.
    kills,
    /// Daemons that were paused.
    pauses,
    /// Connections to the database that were cut.
    cuts,
    /// Restarts of the database.
    restarts,
    /// Daemons that stopped in order.
    stops,
    /// Daemons that others took over from.
    fenced,
    /// Of these, those that were alive and ended.
    fenced_alive,
    /// Transactions that the database ended because their daemons stood still.
    idle_ended,
    /// Deliveries without a row that others found when they took over.
    fresh_taken_over,
    /// Simulated time, in milliseconds.
    simulated_ms,
}

/// See the module.
pub(crate) struct Oracle {
    pub(crate) lease_ms: f64,
    pub(crate) attempts_at_most: u32,
    pub(crate) now_ms: u64,
    lives: BTreeMap<u64, Life>,
    /// What was answered, by the number in the event's data.
    answers: BTreeMap<u64, Answer>,
    last_sequence: BTreeMap<Slot, u64>,
    requests: BTreeMap<DeliveryId, Vec<Request>>,
    /// The deliveries of each endpoint that were sent.
    sent: BTreeMap<Slot, BTreeSet<DeliveryId>>,
    pub(crate) tally: Tally,
    pub(crate) notes: Notes,
}

impl Oracle {
    pub(crate) fn new(lease_ms: f64, attempts_at_most: u32) -> Self {
        Self {
            lease_ms,
            attempts_at_most,
            now_ms: 0,
            lives: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_sequence: BTreeMap::new(),
            requests: BTreeMap::new(),
            sent: BTreeMap::new(),
            tally: Tally::default(),
            notes: Notes::default(),
        }
    }

    /// Notes an event of the run.
    pub(crate) fn note(&mut self, what: impl AsRef<str>) {
        self.notes.note(self.now_ms, what.as_ref());
    }

    /// The contract was violated. Only the first violation counts.
    pub(crate) fn violated(&mut self, what: impl AsRef<str>) {
        self.notes.violated(self.now_ms, what.as_ref());
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.notes.violation()
    }

    pub(crate) fn trace(&self) -> u64 {
        self.notes.trace()
    }

    /// A daemon starts.
    pub(crate) fn begins(&mut self, life: u64) {
        self.lives.insert(life, Life::default());
    }

    fn life(&self, life: u64) -> Life {
        self.lives.get(&life).copied().unwrap_or_default()
    }

    fn change(&mut self, life: u64, change: impl FnOnce(&mut Life)) {
        change(self.lives.entry(life).or_default());
    }

    pub(crate) fn killed(&mut self, life: u64) {
        self.tally.kills += 1;
        self.note(format!("{life} is killed"));
        self.change(life, |life| life.has_ended = true);
    }

    /// A caller has its answer. Without one it can't know.
    pub(crate) fn answered(&mut self, number: u64, answer: Answer) {
        self.note(format!("event {number}: {answer:?}"));
        self.tally.acknowledged += u64::from(matches!(answer, Answer::Stored(_)));
        self.answers.insert(number, answer);
    }
}

//! The open deliveries of one endpoint, and which of them may go. Knows nothing of other endpoints: the admission
//! beside it distributes room among them.

use super::backoff::Backoff;
use super::bucket::Bucket;
use super::delivery_queue::DeliveryQueue;
use super::entry::Entry;
use stormhook_store::endpoint::Ordering;
use stormhook_store::{Endpoint, EventId, QueueEntry, Slot, UnixMs};

/// A newcomer with this many open deliveries goes before the others: it has most to lose.
const EAGER: usize = 8;

/// Open deliveries before and after the first failed attempt of their round.
#[derive(Default, Clone, Copy)]
pub(super) struct Count {
    pub(super) pending: usize,
    pub(super) retrying: usize,
}

impl Count {
    pub(super) fn add(&mut self, entry: Entry) {
        *self.of(entry) += 1;
    }

    pub(super) fn remove(&mut self, entry: Entry) {
        let of = self.of(entry);
        *of = of.saturating_sub(1);
    }

    pub(super) fn sum(self) -> usize {
        self.pending + self.retrying
    }

    fn of(&mut self, entry: Entry) -> &mut usize {
        if entry.retrying() {
            &mut self.retrying
        } else {
            &mut self.pending
        }
    }
}

/// Open deliveries in the order in which they go.
pub(super) enum Backlog {
    /// By due time.
    Parallel(DeliveryQueue<false>),
    /// By sequence. Deliveries of a later round stand aside until they are due.
    Fifo {
        line: DeliveryQueue<true>,
        aside: DeliveryQueue<false>,
    },
}

impl Default for Backlog {
    fn default() -> Self {
        Self::Parallel(DeliveryQueue::default())
    }
}

impl Backlog {
    fn of(ordering: Ordering) -> Self {
        match ordering {
            Ordering::Parallel => Self::Parallel(DeliveryQueue::default()),
            Ordering::Fifo => Self::Fifo {
                line: DeliveryQueue::default(),
                aside: DeliveryQueue::default(),
            },
        }
    }

    fn ordering(&self) -> Ordering {
        match self {
            Self::Parallel(_) => Ordering::Parallel,
            Self::Fifo { .. } => Ordering::Fifo,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Parallel(line) => line.len(),
            Self::Fifo { line, aside } => line.len() + aside.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, entry: Entry) {
        match self {
            Self::Parallel(line) => line.push(entry),
            Self::Fifo { aside, .. } if entry.later_round() => aside.push(entry),
            Self::Fifo { line, .. } => line.push(entry),
        }
    }

    pub(super) fn remove(&mut self, event: EventId) -> Option<Entry> {
        match self {
            Self::Parallel(line) => line.remove(event),
            Self::Fifo { line, aside } => line.remove(event).or_else(|| aside.remove(event)),
        }
    }

    /// Returns the entry that goes first, due or not.
    pub(super) fn first(&mut self, now: UnixMs) -> Option<Entry> {
        let (line, aside) = match self {
            Self::Parallel(line) => return line.first(),
            Self::Fifo { line, aside } => (line, aside),
        };
        while let Some(due) = aside.first().filter(|entry| entry.due() <= now) {
            aside.pop();
            line.push(due);
        }
        // If the clock went back, one of a later round may be in the queue too early.
        while let Some(early) = line.first().filter(|e| e.later_round() && e.due() > now) {
            line.pop();
            aside.push(early);
        }
        match (line.first(), aside.first()) {
            // If the head is not due either, the earlier of the two goes first.
            (Some(head), Some(other)) if other.due() < head.due() && head.due() > now => {
                Some(other)
            }
            (Some(head), _) => Some(head),
            (None, other) => other,
        }
    }

    /// Removes the entry that [`Backlog::first`] returned, if it is due; otherwise any.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        match self {
            Self::Parallel(line) => line.pop(),
            Self::Fifo { line, aside } => line.pop().or_else(|| aside.pop()),
        }
    }

    /// Whether another delivery of a FIFO backlog is before this one.
    pub(super) fn has_before(&self, event: EventId) -> bool {
        match self {
            Self::Parallel(_) => false,
            Self::Fifo { line, .. } => line.first().is_some_and(|head| head.event() != event),
        }
    }

    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        match self {
            Self::Parallel(line) => Box::new(line.iter()),
            Self::Fifo { line, aside } => Box::new(line.iter().chain(aside.iter())),
        }
    }

    /// Returns the approximate size on the heap, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Parallel(line) => line.bytes(),
            Self::Fifo { line, aside } => line.bytes() + aside.bytes(),
        }
    }

    /// Returns the earliest due time of all.
    pub(super) fn earliest_due(&self) -> Option<UnixMs> {
        match self {
            Self::Parallel(line) => line.first().map(Entry::due),
            Self::Fifo { .. } => self.iter().map(Entry::due).min(),
        }
    }
}

/// How fast an endpoint answers, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Its last attempt took less than a second.
    Fast,
    /// An attempt took longer than a second, and none less than one since.
    Slow,
    /// Not known yet.
    Unknown,
}

/// One endpoint's queue.
pub(super) struct Queue {
    pub(super) slot: Slot,
    pub(super) receives: bool,
    pub(super) deleted: bool,
    pub(super) backlog: Backlog,
    pub(super) bucket: Option<Bucket>,
    pub(super) class: Class,
    /// In the backlog, or set aside while an operator's change holds them.
    pub(super) waits: Count,
    /// Claimed, until their commit is announced.
    pub(super) claimed: Count,
    /// Attempts in flight.
    pub(super) on_wire: usize,
    /// Whether the one in flight is a newcomer's and may still be answered soon.
    pub(super) young: bool,
    /// Its place in a ring, if it is in one.
    pub(super) stamp: Option<u64>,
    /// Whether that ring is the one of newcomers with much to send.
    pub(super) stands_eager: bool,
    /// When a timer will look at it again.
    pub(super) wake: Option<UnixMs>,
    /// Its wait after an attempt that lacked a resource.
    pub(super) backoff: Backoff,
    highest_sequence: u64,
}

impl Queue {
    /// Returns the queue of an endpoint that isn't known yet: nothing may go.
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            receives: false,
            deleted: false,
            backlog: Backlog::default(),
            bucket: None,
            class: Class::Unknown,
            waits: Count::default(),
            claimed: Count::default(),
            on_wire: 0,
            young: false,
            stamp: None,
            stands_eager: false,
            wake: None,
            backoff: Backoff::default(),
            highest_sequence: 0,
        }
    }

    /// Applies an endpoint's settings.
    pub(super) fn configure(&mut self, endpoint: &Endpoint, now: UnixMs) {
        self.receives = endpoint.receives();
        self.deleted = endpoint.deleted_at.is_some();
        self.bucket = match (endpoint.rate_limit_per_second, self.bucket.take()) {
            (None, _) => None,
            (Some(rate), Some(bucket)) => Some(bucket.at_rate(rate, now)),
            (Some(rate), None) => Some(Bucket::new(rate, now)),
        };
        if self.backlog.ordering() != endpoint.ordering {
            let mut old = std::mem::replace(&mut self.backlog, Backlog::of(endpoint.ordering));
            while let Some(entry) = old.pop() {
                self.backlog.push(entry);
            }
        }
    }

    pub(super) fn is_fifo(&self) -> bool {
        matches!(self.backlog, Backlog::Fifo { .. })
    }

    /// Whether nothing more may start before an attempt ends: a FIFO queue sends one at a time, and so does any queue
    /// after trouble of the daemon's own until one attempt has shown that it is over.
    pub(super) fn is_taken(&self) -> bool {
        self.is_fifo() && self.claimed.sum() > 0 || self.backoff.in_trouble() && self.on_wire > 0
    }

    /// Whether it has never answered and has much to send.
    pub(super) fn is_eager(&self) -> bool {
        self.class == Class::Unknown && self.backlog.len() >= EAGER
    }

    /// Whether this delivery can't be in the queue yet: sequence numbers only grow.
    pub(super) fn is_surely_new(&self, waiting: &QueueEntry) -> bool {
        waiting.sequence > self.highest_sequence
    }

    /// Adds an entry, which must not be in it.
    pub(super) fn add(&mut self, entry: Entry) {
        self.highest_sequence = self.highest_sequence.max(entry.sequence());
        self.waits.add(entry);
        self.backlog.push(entry);
    }

    /// Removes an open delivery; `None` if it isn't in the queue.
    pub(super) fn remove(&mut self, event: EventId) -> Option<Entry> {
        let entry = self.backlog.remove(event)?;
        self.waits.remove(entry);
        Some(entry)
    }

    /// Removes all open deliveries.
    pub(super) fn clear(&mut self) {
        self.backlog = Backlog::of(self.backlog.ordering());
        self.waits = Count::default();
    }

    /// Returns the number of open deliveries, including those in flight.
    pub(super) fn open(&self) -> usize {
        self.waits.sum() + self.claimed.sum()
    }

    /// Whether nothing is left of a deleted endpoint.
    pub(super) fn is_over(&self) -> bool {
        self.deleted && self.backlog.is_empty() && self.open() == 0
    }
}

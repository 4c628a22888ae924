//! A queue of open deliveries, in the order in which they go: by due time, or by sequence.
//!
//! Nearly all join at the end, in order of acceptance. They form a run, which needs no sorting and is searched by
//! bisection. The others are in a heap, with a small filter that tells which events are certainly not in it. Memory
//! grows by an eighth at a time and is returned as the queue drains.

use super::entry::Entry;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use stormhook_store::EventId;

/// Below this many entries, memory isn't worth returning.
const SMALL: usize = 32;

/// An entry with the key that a queue is sorted by.
#[derive(Clone, Copy)]
pub(super) struct Ranked<const BY_SEQUENCE: bool>(Entry);

impl<const BY_SEQUENCE: bool> Ranked<BY_SEQUENCE> {
    fn rank(self) -> (u64, EventId) {
        let first = if BY_SEQUENCE {
            self.0.sequence()
        } else {
            self.0.due().0
        };
        (first, self.0.event())
    }
}

impl<const B: bool> Ord for Ranked<B> {
    /// The greatest goes first, as [`BinaryHeap`] requires.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl<const B: bool> PartialOrd for Ranked<B> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const B: bool> PartialEq for Ranked<B> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<const B: bool> Eq for Ranked<B> {}

/// Tells which events are certainly not in the heap, with five bytes per event. The error rate is 1 in 4 billion per
/// event.
#[derive(Default)]
struct Filter {
    prints: HashSet<u32>,
    /// A print that several events share, once for each further event.
    again: Vec<u32>,
}

impl Filter {
    /// The last 32 bits of an id are random, or a random step from those of another.
    fn print(event: EventId) -> u32 {
        u32::try_from(event.0 & 0xFFFF_FFFF).unwrap_or_default()
    }

    fn add(&mut self, event: EventId) {
        let print = Self::print(event);
        if !self.prints.insert(print) {
            self.again.push(print);
        }
    }

    fn remove(&mut self, event: EventId) {
        let print = Self::print(event);
        match self.again.iter().position(|&other| other == print) {
            Some(at) => {
                self.again.swap_remove(at);
            }
            None => {
                self.prints.remove(&print);
            }
        }
    }

    fn may_hold(&self, event: EventId) -> bool {
        self.prints.contains(&Self::print(event))
    }
}

/// A queue sorted by due time, or by sequence if `BY_SEQUENCE`.
#[derive(Default)]
pub(super) struct DeliveryQueue<const BY_SEQUENCE: bool> {
    /// Ascending by rank and by event. The first entry is never dead.
    run: VecDeque<Entry>,
    dead: usize,
    heap: BinaryHeap<Ranked<BY_SEQUENCE>>,
    filter: Filter,
}

impl<const BY_SEQUENCE: bool> DeliveryQueue<BY_SEQUENCE> {
    pub(super) fn len(&self) -> usize {
        self.run.len() - self.dead + self.heap.len()
    }

    /// Adds an entry, whose event must not be in the queue.
    pub(super) fn push(&mut self, entry: Entry) {
        // A retry is due later: at the end of the run it would keep everything after it out.
        let joins = (BY_SEQUENCE || entry.fresh())
            && self.run.back().is_none_or(|last| {
                let in_order =
                    Ranked::<BY_SEQUENCE>(entry).rank() > Ranked::<BY_SEQUENCE>(*last).rank();
                in_order && entry.event() > last.event()
            });
        if joins {
            if self.run.len() == self.run.capacity() {
                self.run.reserve_exact(step(self.run.len()));
            }
            self.run.push_back(entry);
        } else {
            if self.heap.len() == self.heap.capacity() {
                self.heap.reserve_exact(step(self.heap.len()));
            }
            self.filter.add(entry.event());
            self.heap.push(Ranked(entry));
        }
    }

    /// Returns the entry that goes first.
    pub(super) fn first(&self) -> Option<Entry> {
        match (self.run.front(), self.heap.peek()) {
            (Some(run), Some(heap)) if Ranked(*run) < *heap => Some(heap.0),
            (Some(run), _) => Some(*run),
            (None, heap) => heap.map(|ranked| ranked.0),
        }
    }

    /// Removes the entry that goes first.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let from_heap = match (self.run.front(), self.heap.peek()) {
            (Some(run), Some(heap)) => Ranked(*run) < *heap,
            (None, Some(_)) => true,
            _ => false,
        };
        if from_heap {
            let entry = self.heap.pop()?.0;
            self.filter.remove(entry.event());
            self.shrink_heap();
            return Some(entry);
        }
        let entry = self.run.pop_front()?;
        self.tidy_run();
        Some(entry)
    }

    /// Removes this event's entry, if there is one.
    pub(super) fn remove(&mut self, event: EventId) -> Option<Entry> {
        if let Ok(at) = self.run.binary_search_by(|entry| entry.event().cmp(&event))
            && let Some(found) = self.run.get_mut(at)
            && !found.dead()
        {
            let entry = *found;
            found.kill();
            self.dead += 1;
            self.tidy_run();
            return Some(entry);
        }
        if !self.filter.may_hold(event) {
            return None;
        }
        let entry = self.heap.iter().find(|r| r.0.event() == event)?.0;
        self.heap.retain(|ranked| ranked.0.event() != event);
        self.filter.remove(event);
        self.shrink_heap();
        Some(entry)
    }

    /// Returns all entries, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> {
        let run = self.run.iter().copied().filter(|entry| !entry.dead());
        run.chain(self.heap.iter().map(|ranked| ranked.0))
    }

    /// Returns the approximate size on the heap, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let entries = self.run.capacity() + self.heap.capacity();
        // A hash set needs one more byte per place, and an eighth of the places stays empty.
        let prints = (self.filter.prints.capacity() * 8 / 7) * 5 + self.filter.again.capacity() * 4;
        entries * size_of::<Entry>() + prints
    }

    /// Keeps the front alive, dead entries a minority, and spare capacity in proportion.
    fn tidy_run(&mut self) {
        while self.run.front().is_some_and(|entry| entry.dead()) {
            self.run.pop_front();
            self.dead -= 1;
        }
        if self.dead > SMALL && self.dead > self.run.len() / 2 {
            self.run.retain(|entry| !entry.dead());
            self.dead = 0;
        }
        if self.run.is_empty() {
            // Ten thousand endpoints may have had their turn and be waiting for retries.
            self.run.shrink_to_fit();
        } else if self.run.capacity() > SMALL && self.run.len() < self.run.capacity() / 4 {
            self.run.shrink_to(self.run.capacity() / 2);
        }
    }

    fn shrink_heap(&mut self) {
        if self.heap.is_empty() {
            self.heap.shrink_to_fit();
            self.filter = Filter::default();
        } else if self.heap.capacity() > SMALL && self.heap.len() < self.heap.capacity() / 4 {
            let half = self.heap.capacity() / 2;
            self.heap.shrink_to(half);
            self.filter.prints.shrink_to(half);
        }
    }
}

/// By how much a full queue of `len` entries grows: enough to be cheap, little enough to waste nothing.
fn step(len: usize) -> usize {
    (len / 8).max(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use stormhook_store::{DeliveryId, QueueEntry, Slot, Trigger, UnixMs};

    fn entry(event: u128, due: u64, sequence: u64, fresh: bool) -> Entry {
        Entry::new(&QueueEntry {
            id: DeliveryId {
                event: EventId(event),
                slot: Slot(0),
            },
            due: UnixMs(due),
            sequence,
            retrying: !fresh,
            fresh,
            later_round: false,
            trigger: Trigger::Schedule,
        })
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u128, u64, bool),
        Pop,
        Remove(u128),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u128..200, 0u64..200, any::<bool>()).prop_map(|(e, d, f)| Step::Push(e, d, f)),
            // Ids that the filter can't distinguish.
            1 => (0u128..4, 0u64..200, any::<bool>()).prop_map(|(e, d, f)| Step::Push(e << 32, d, f)),
            2 => Just(Step::Pop),
            2 => (0u128..200).prop_map(Step::Remove),
            1 => (0u128..4).prop_map(|e| Step::Remove(e << 32)),
        ];
        prop::collection::vec(step, 0..400)
    }

    fn compare<const B: bool>(steps: &[Step]) {
        let mut line = DeliveryQueue::<B>::default();
        let mut model: BTreeMap<u128, (u64, u128)> = BTreeMap::new();
        for step in steps {
            match *step {
                Step::Push(event, rank, fresh) => {
                    if model.insert(event, (rank, event)).is_some() {
                        assert!(line.remove(EventId(event)).is_some());
                    }
                    line.push(entry(event, rank, rank, fresh));
                }
                Step::Pop => {
                    let first = model.values().min().copied();
                    assert_eq!(line.first().map(|e| e.event().0), first.map(|f| f.1));
                    assert_eq!(line.pop().map(|e| e.event().0), first.map(|f| f.1));
                    first.map(|f| model.remove(&f.1));
                }
                Step::Remove(event) => {
                    let there = model.remove(&event).is_some();
                    assert_eq!(line.remove(EventId(event)).is_some(), there);
                }
            }
            assert_eq!(line.len(), model.len());
            assert_eq!(line.iter().count(), model.len());
        }
    }

    proptest! {
        #[test]
        fn a_line_hands_out_the_lowest_rank_first_whatever_joined_or_left(steps in steps()) {
            compare::<false>(&steps);
            compare::<true>(&steps);
        }
    }

    #[test]
    fn a_drained_line_gives_its_memory_back() {
        let mut line = DeliveryQueue::<false>::default();
        for i in 0..100_000u64 {
            line.push(entry(u128::from(i), i, i, i % 2 == 0));
        }
        assert!(line.run.capacity() + line.heap.capacity() <= 112_500 + 8);
        while line.pop().is_some() {}
        assert!(line.run.capacity() + line.heap.capacity() <= 2 * SMALL);
    }
}

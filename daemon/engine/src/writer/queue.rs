//! The operations that are in no commit yet, and the bounds on them.
//!
//! Operations and bytes are bounded. One organization may use as much room as it leaves free: half of the queue when
//! alone, its share beside others. There is always room for one that has nothing waiting.

use super::{Reply, SubmitError};
use std::collections::{HashMap, VecDeque};
use stormhook_store::Op;

/// Operations that may queue for the next commits.
pub(super) const QUEUE_OPS: usize = 8_192;
/// Bytes of events that may queue.
pub(super) const QUEUE_BYTES: usize = 64 << 20;

/// The organization of an event: a hash under a key of this process. Two organizations with the same hash share their
/// turns and their room, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane(pub(super) u64);

/// How much room an operation needs, and from whose share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) bytes: usize,
    /// The lane, for a caller's event.
    pub(super) lane: Option<Lane>,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) size: Size,
    pub(super) reply: Option<Reply>,
}

/// The waiting operations, and the bytes of their events.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    ops: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.ops += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.ops = self.ops.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Operations that the writer's thread has not fetched yet.
    arrived: VecDeque<Request>,
    /// All operations in no commit yet, fetched or not.
    waiting: Load,
    of_lane: HashMap<Lane, Load>,
    pub(super) closed: bool,
}

impl Queue {
    /// Returns the number of operations in no commit yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.ops
    }

    /// Checks that an operation may queue.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&self, size: Size) -> Result<(), SubmitError> {
        if self.closed {
            Err(SubmitError::ShuttingDown)
        } else if self.fits(size, 1) {
            Ok(())
        } else {
            Err(SubmitError::Busy)
        }
    }

    /// Whether there is room for an operation that found none, and for more than itself: after waiting once, a caller
    /// should not have to wait again for each commit.
    pub(super) fn has_room(&self, size: Size) -> bool {
        self.closed || (self.fits(size, 1) && self.fits(size, 2))
    }

    /// Whether an operation fits if `times` as much as its organization uses must be free.
    fn fits(&self, size: Size, times: usize) -> bool {
        let free_ops = QUEUE_OPS.saturating_sub(self.waiting.ops);
        let free_bytes = QUEUE_BYTES.saturating_sub(self.waiting.bytes);
        if free_ops == 0 || (size.bytes > free_bytes && self.waiting.bytes > 0) {
            return false;
        }
        let own = size.lane.and_then(|lane| self.of_lane.get(&lane));
        own.is_none_or(|own| {
            own.ops.saturating_mul(times) < free_ops
                && own.bytes.saturating_add(size.bytes).saturating_mul(times) <= free_bytes
        })
    }

    /// Queues an operation. Returns true if nothing waited before.
    pub(super) fn push(&mut self, request: Request) -> bool {
        self.waiting.add(request.size.bytes);
        if let Some(lane) = request.size.lane {
            self.of_lane
                .entry(lane)
                .or_default()
                .add(request.size.bytes);
        }
        self.arrived.push_back(request);
        self.waiting.ops == 1
    }

    /// Swaps the operations that have arrived for the caller's empty buffer.
    pub(super) fn fetch(&mut self, into: &mut VecDeque<Request>) {
        std::mem::swap(&mut self.arrived, into);
    }

    /// Frees the room of operations that are in a commit now.
    pub(super) fn taken(&mut self, requests: &[Request]) {
        for Request { size, .. } in requests {
            self.waiting.remove(size.bytes);
            let Some(lane) = size.lane else { continue };
            if let Some(own) = self.of_lane.get_mut(&lane) {
                own.remove(size.bytes);
                if own.ops == 0 {
                    self.of_lane.remove(&lane);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormhook_store::maintenance::Probe;

    fn event(lane: u64, bytes: usize) -> Request {
        Request {
            op: Op::Probe(Probe),
            size: Size {
                bytes,
                lane: Some(Lane(lane)),
            },
            reply: None,
        }
    }

    /// Queues as many as are admitted.
    fn fill(queue: &mut Queue, lane: u64, bytes: usize) -> usize {
        let mut count = 0;
        while queue.admit(event(lane, bytes).size).is_ok() {
            queue.push(event(lane, bytes));
            count += 1;
        }
        count
    }

    fn drain(queue: &mut Queue, count: usize) {
        let mut fetched = VecDeque::new();
        queue.fetch(&mut fetched);
        let mut rest = fetched.split_off(count);
        queue.taken(&Vec::from(fetched));
        queue.fetch(&mut rest);
    }

    #[test]
    fn an_organization_may_take_up_as_much_as_it_leaves_free() {
        let mut queue = Queue::default();
        assert_eq!(fill(&mut queue, 1, 100), QUEUE_OPS / 2);
        assert_eq!(fill(&mut queue, 2, 100), QUEUE_OPS / 4);
        assert_eq!(fill(&mut queue, 1, 100), 0);
        for lane in 3..200 {
            assert!(fill(&mut queue, lane, 100) > 0 || queue.waiting() == QUEUE_OPS);
        }
        assert!(queue.waiting() <= QUEUE_OPS);
    }

    #[test]
    fn bytes_are_shared_as_operations_are() {
        let mut queue = Queue::default();
        let bytes = 250 << 10;
        let alone = fill(&mut queue, 1, bytes);
        assert_eq!(alone, QUEUE_BYTES / 2 / bytes);
        assert_eq!(queue.admit(event(1, bytes).size), Err(SubmitError::Busy));
        assert_eq!(queue.admit(event(2, bytes).size), Ok(()));
        assert!(queue.waiting.bytes <= QUEUE_BYTES / 2);
    }

    #[test]
    fn one_event_is_admitted_however_large_where_nothing_waits() {
        let mut queue = Queue::default();
        assert_eq!(fill(&mut queue, 1, QUEUE_BYTES + 1), 1);
        assert_eq!(queue.admit(event(2, 1).size), Err(SubmitError::Busy));
        drain(&mut queue, 1);
        assert_eq!((queue.waiting.ops, queue.waiting.bytes), (0, 0));
        assert!(queue.of_lane.is_empty());
    }

    #[test]
    fn room_is_what_is_admitted_and_more() {
        let (ops, bytes) = (100, 250 << 10);
        for (size, bytes) in [("by operations", ops), ("by bytes", bytes)] {
            let mut queue = Queue::default();
            let count = fill(&mut queue, 1, bytes);
            let next = event(1, bytes).size;
            assert!(!queue.has_room(next), "{size}: full");
            let mut taken = 0;
            while !queue.has_room(next) {
                drain(&mut queue, 1);
                taken += 1;
            }
            assert!(
                taken > count / 8 && taken < count,
                "{size}: {taken} of {count}"
            );
            assert_eq!(queue.admit(next), Ok(()), "{size}");
        }
    }

    #[test]
    fn who_waits_for_room_hears_that_the_queue_is_closed() {
        let mut queue = Queue::default();
        fill(&mut queue, 1, 100);
        assert!(!queue.has_room(event(1, 100).size));
        queue.closed = true;
        assert!(queue.has_room(event(1, 100).size));
        assert_eq!(
            queue.admit(event(1, 100).size),
            Err(SubmitError::ShuttingDown)
        );
    }
}

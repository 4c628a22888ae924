//! What goes into the next commit: changes first, then events, one organization after the other.
//!
//! Changes are everything but callers' events: outcomes of attempts, commands of operators, maintenance. They keep
//! their order, and never queue behind events. Events keep the order within their organization. Organizations take
//! turns, and a turn is counted in rows: an event for a thousand endpoints uses as much of it as a thousand events for
//! one.

use super::queue::{Lane, Request};
use std::collections::{HashMap, VecDeque};
use stormhook_store::{Op, ROWS_PER_STEP};

/// Operations of one commit.
pub(super) const COMMIT_OPS: usize = 1_024;
/// Rows that the events of one commit write.
pub(super) const EVENT_ROWS: usize = 5_000;
/// The same for changes: room for one step of the sweep and one step of a bulk change.
pub(super) const CHANGE_ROWS: usize = 5_000 + 2 * ROWS_PER_STEP;
/// Rows that an organization gets with each turn. It keeps what it can't use yet for the next one.
const TURN_ROWS: usize = 32;
/// Queues that are kept for future organizations, and their largest capacity.
const SPARE_QUEUES: usize = 64;
const SPARE_LENGTH: usize = 2 * COMMIT_OPS;

/// Events of one organization.
#[derive(Debug, Default)]
struct LaneQueue {
    events: VecDeque<Request>,
    /// Rows that it may write.
    credit: usize,
    /// How many rows the first of them writes, and the commit for which that was computed.
    first_rows: Option<(u64, usize)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    changes: VecDeque<Request>,
    lanes: HashMap<Lane, LaneQueue>,
    /// Whose turn it is, and the order after it. Each lane is in it once.
    order: VecDeque<Lane>,
    events: usize,
    spare: Vec<VecDeque<Request>>,
    /// Counts commits.
    commit: u64,
}

impl Turns {
    /// Adds what has arrived.
    pub(super) fn add(&mut self, arrived: &mut VecDeque<Request>) {
        for request in arrived.drain(..) {
            let Some(lane) = request.size.lane else {
                self.changes.push_back(request);
                continue;
            };
            self.events += 1;
            let (order, spare) = (&mut self.order, &mut self.spare);
            let waiting = self.lanes.entry(lane).or_insert_with(|| {
                order.push_back(lane);
                LaneQueue {
                    events: spare.pop().unwrap_or_default(),
                    ..LaneQueue::default()
                }
            });
            waiting.events.push_back(request);
        }
    }

    /// Returns the operations of the next commit. `rows` returns the most rows that an operation writes.
    pub(super) fn take(&mut self, rows: impl Fn(&Op) -> usize) -> Vec<Request> {
        self.commit += 1;
        let waiting = self.changes.len() + self.events;
        let mut taken = Vec::with_capacity(waiting.min(COMMIT_OPS));
        // If there are more than half a commit of each, each gets half.
        let for_events = self.events.min(COMMIT_OPS / 2);
        self.take_changes(&mut taken, COMMIT_OPS - for_events, &rows);
        // Endpoints that are created or enabled in this very commit receive its events too.
        let more = taken.iter().filter(|r| adds_subscriber(&r.op)).count();
        self.take_events(&mut taken, &|op| rows(op) + more);
        taken
    }

    fn take_changes(
        &mut self,
        taken: &mut Vec<Request>,
        most: usize,
        rows: &impl Fn(&Op) -> usize,
    ) {
        let mut left = CHANGE_ROWS;
        while taken.len() < most
            && let Some(next) = self.changes.front()
        {
            let rows = rows(&next.op);
            if rows > left && !taken.is_empty() {
                return;
            }
            left = left.saturating_sub(rows);
            taken.extend(self.changes.pop_front());
        }
    }

    fn take_events(&mut self, taken: &mut Vec<Request>, rows: &impl Fn(&Op) -> usize) {
        let mut left = EVENT_ROWS;
        while taken.len() < COMMIT_OPS
            && let Some(lane) = self.order.pop_front()
        {
            let Some(waiting) = self.lanes.get_mut(&lane) else {
                continue;
            };
            waiting.credit += TURN_ROWS;
            while taken.len() < COMMIT_OPS
                && let Some(next) = waiting.events.front()
            {
                let known = waiting.first_rows.filter(|(at, _)| *at == self.commit);
                let rows = known.map_or_else(|| rows(&next.op), |(_, rows)| rows);
                waiting.first_rows = Some((self.commit, rows));
                if rows > waiting.credit {
                    break;
                }
                // The next commit begins with it. One that exceeds a commit's limit gets a commit of its own.
                if rows > left && left < EVENT_ROWS {
                    self.order.push_front(lane);
                    return;
                }
                waiting.credit -= rows;
                waiting.first_rows = None;
                left = left.saturating_sub(rows);
                self.events -= 1;
                taken.extend(waiting.events.pop_front());
            }
            if waiting.events.is_empty() {
                self.forget(lane);
            } else {
                self.order.push_back(lane);
            }
        }
    }

    /// An organization has nothing waiting any more.
    fn forget(&mut self, lane: Lane) {
        let Some(waiting) = self.lanes.remove(&lane) else {
            return;
        };
        if self.spare.len() < SPARE_QUEUES && waiting.events.capacity() <= SPARE_LENGTH {
            self.spare.push(waiting.events);
        }
    }
}

/// Whether an operation may give an organization one more endpoint that receives its events.
fn adds_subscriber(op: &Op) -> bool {
    matches!(op.bare(), Op::CreateEndpoint(_) | Op::UpdateEndpoint(_))
}

#[cfg(test)]
mod tests {
    use super::super::queue::Size;
    use super::*;
    use stormhook_store::{Cancel, DeliveryId, EventId, NewEvent, Slot, UpdateEndpoint};

    /// Returns an event of an organization. Its data is the number of rows it writes; its key is its number.
    fn event(lane: u64, rows: usize, number: usize) -> Request {
        Request {
            op: Op::Accept(NewEvent {
                organization: format!("org_{lane}"),
                event_type: "a".to_owned(),
                timestamp: None,
                idempotency_key: Some(number.to_string()),
                data: rows.to_string().into_bytes(),
            }),
            size: Size {
                bytes: 0,
                lane: Some(Lane(lane)),
            },
            reply: None,
        }
    }

    fn change(number: u128) -> Request {
        let delivery = DeliveryId {
            event: EventId(number),
            slot: Slot(0),
        };
        Request {
            op: Op::Cancel(Cancel(delivery)),
            size: Size {
                bytes: 0,
                lane: None,
            },
            reply: None,
        }
    }

    fn rows(op: &Op) -> usize {
        match op {
            Op::Accept(event) => std::str::from_utf8(&event.data).unwrap().parse().unwrap(),
            _ => 1,
        }
    }

    /// The numbers of each organization's events in a commit, in order, and those of the changes.
    fn numbers(commit: &[Request]) -> (HashMap<u64, Vec<usize>>, Vec<u128>) {
        let (mut events, mut changes) = (HashMap::<u64, Vec<usize>>::new(), Vec::new());
        for request in commit {
            match &request.op {
                Op::Accept(event) => {
                    let number = event.idempotency_key.as_deref().unwrap().parse().unwrap();
                    let lane = request.size.lane.unwrap().0;
                    events.entry(lane).or_default().push(number);
                }
                Op::Cancel(Cancel(id)) => changes.push(id.event.0),
                other => unreachable!("{other:?}"),
            }
        }
        (events, changes)
    }

    fn with(requests: impl IntoIterator<Item = Request>) -> Turns {
        let mut turns = Turns::default();
        turns.add(&mut requests.into_iter().collect());
        turns
    }

    fn total(commit: &[Request]) -> usize {
        commit.iter().map(|r| rows(&r.op)).sum()
    }

    #[test]
    fn a_commit_is_bounded_in_operations_and_in_rows() {
        let mut turns = with((0..3_000).map(|n| event(1, 1, n)));
        assert_eq!(turns.take(rows).len(), COMMIT_OPS);
        let mut turns = with((0..1_000).map(|n| event(1, 1_000, n)));
        let each = EVENT_ROWS / 1_000;
        for commit in 0..1_000 / each {
            let taken = turns.take(rows);
            assert_eq!(total(&taken), EVENT_ROWS, "commit {commit}");
            let expected: Vec<_> = (each * commit..each * (commit + 1)).collect();
            assert_eq!(numbers(&taken).0[&1], expected);
        }
        assert!(turns.take(rows).is_empty());
        assert!(turns.lanes.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn one_that_is_larger_than_a_commit_may_be_makes_one_of_its_own() {
        let mut turns = with([
            event(1, 1, 0),
            event(1, 50_000, 1),
            event(2, 1, 2),
            event(1, 1, 3),
        ]);
        let mut commits = Vec::new();
        while !turns.order.is_empty() {
            let (events, _) = numbers(&turns.take(rows));
            let mut all: Vec<_> = events.into_values().flatten().collect();
            all.sort_unstable();
            commits.push(all);
        }
        assert_eq!(commits, [vec![0, 2], vec![1], vec![3]]);
    }

    #[test]
    fn organizations_take_turns_and_a_turn_is_counted_in_rows() {
        // One organization sends for a thousand endpoints each time, others for one. Each gets about as many rows.
        let heavy = (0..500).map(|n| event(1, 1_000, n));
        let light = (0..2_000).map(|n| event(2 + n as u64 % 2, 10, n));
        let mut turns = with(heavy.chain(light));
        let mut written = HashMap::<u64, usize>::new();
        for _ in 0..30_000 / EVENT_ROWS {
            let taken = turns.take(rows);
            assert!(total(&taken) <= EVENT_ROWS);
            for request in &taken {
                *written.entry(request.size.lane.unwrap().0).or_default() += rows(&request.op);
            }
        }
        for lane in [1, 2, 3] {
            let rows = written[&lane];
            assert!((8_000..=12_000).contains(&rows), "{lane}: {written:?}");
        }
    }

    #[test]
    fn who_comes_to_a_long_queue_of_another_is_in_the_next_commit() {
        let mut turns = with((0..8_000).map(|n| event(1, 1_000, n)));
        turns.take(rows);
        turns.add(&mut [event(2, 3, 0)].into());
        assert!(numbers(&turns.take(rows)).0.contains_key(&2));
        let mut turns = with((0..8_000).map(|n| event(n as u64 % 16, 1, n)));
        turns.take(rows);
        turns.add(&mut [event(99, 3, 0)].into());
        assert!(numbers(&turns.take(rows)).0.contains_key(&99));
    }

    #[test]
    fn the_order_within_an_organization_and_between_changes_is_kept() {
        let mut turns = Turns::default();
        let (mut events, mut changes) = (HashMap::<u64, Vec<usize>>::new(), Vec::new());
        let mut at = 0;
        while at < 6_000 || !turns.order.is_empty() {
            let upto = (at + 700).min(6_000);
            let fresh = (at..upto).map(|n| match n % 5 {
                0 => change(n as u128),
                lane => event(lane as u64, [1, 7, 400, 3_000][lane - 1], n),
            });
            turns.add(&mut fresh.collect());
            at = upto;
            let (more, also) = numbers(&turns.take(rows));
            for (lane, numbers) in more {
                events.entry(lane).or_default().extend(numbers);
            }
            changes.extend(also);
        }
        for (lane, numbers) in &events {
            let expected: Vec<_> = (0..6_000).filter(|n| *n as u64 % 5 == *lane).collect();
            assert_eq!(numbers, &expected, "{lane}");
        }
        assert_eq!(changes, (0..6_000).step_by(5).collect::<Vec<_>>());
    }

    #[test]
    fn changes_go_before_events_and_neither_takes_all_of_a_commit() {
        let events = (0..3_000).map(|n| event(1, 1, n));
        let mut turns = with(events.chain((0..3_000).map(change)));
        for _ in 0..3 {
            let taken = turns.take(rows);
            assert_eq!(taken.len(), COMMIT_OPS);
            let (before, after) = taken.split_at(COMMIT_OPS / 2);
            assert!(before.iter().all(|r| r.size.lane.is_none()));
            assert!(after.iter().all(|r| r.size.lane.is_some()));
        }
        // What one doesn't use, the other gets.
        let mut turns = with(
            (0..10)
                .map(|n| event(1, 1, n))
                .chain((0..3_000).map(change)),
        );
        assert_eq!(numbers(&turns.take(rows)).1.len(), COMMIT_OPS - 10);
        let mut turns = with(
            (0..3_000)
                .map(|n| event(1, 1, n))
                .chain((0..10).map(change)),
        );
        assert_eq!(numbers(&turns.take(rows)).0[&1].len(), COMMIT_OPS - 10);
    }

    #[test]
    fn changes_are_bounded_in_rows_and_one_always_goes() {
        let mut turns = with((0..40).map(change));
        assert_eq!(turns.take(|_| 1_000).len(), CHANGE_ROWS / 1_000);
        let mut turns = with((0..2).map(change));
        assert_eq!(turns.take(|_| 1_000_000).len(), 1);
    }

    #[test]
    fn endpoints_that_are_made_in_the_same_commit_count() {
        let mut turns = with((0..1_000).map(|n| event(1, 1, n)));
        let switched_on = (0..500).map(|_| Request {
            op: Op::UpdateEndpoint(UpdateEndpoint {
                id: stormhook_store::EndpointId(1),
                change: Box::default(),
            }),
            ..change(0)
        });
        turns.add(&mut switched_on.collect());
        let taken = turns.take(rows);
        assert_eq!(taken.len() - 500, EVENT_ROWS / 501);
    }

    #[test]
    fn queues_that_are_kept_are_few_and_short() {
        let mut turns = with((0..200).map(|lane| event(lane, 1, 0)));
        turns.take(rows);
        assert_eq!(turns.spare.len(), SPARE_QUEUES);
        let mut turns = with((0..8_000).map(|n| event(1, 1, n)));
        while !turns.order.is_empty() {
            turns.take(rows);
        }
        assert!(turns.spare.is_empty());
    }
}

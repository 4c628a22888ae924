//! What tests do with a store, whichever it is: the module above has the store and its reader.

use super::{Fixture, Reader};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use stormhook_store::endpoint::{EndpointChange, Seed};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{
    Accepted, Applied, BulkFound, CreateEndpoint, Cursor, Delivery, DeliveryId, Done, Endpoint,
    EndpointId, Event, EventId, NewEvent, NextStep, Op, Operation, Page, Recover, Refusal, Slot,
    Status, StoreError, UnixMs, UpdateEndpoint,
};
use stormhook_testkit::samples::*;

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

pub(crate) fn seed(n: u8) -> Seed {
    Seed::from_random(&[n; 32])
}

pub(crate) fn keyed(organization: &str, key: &str) -> NewEvent {
    NewEvent {
        idempotency_key: Some(key.to_owned()),
        ..event(organization, "order.created")
    }
}

pub(crate) fn activate(active: bool) -> EndpointChange {
    EndpointChange {
        active: Some(active),
        ..EndpointChange::default()
    }
}

impl Fixture {
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub(crate) fn try_apply(&mut self, ops: Vec<Op>) -> Result<Applied, StoreError> {
        let random = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        self.commit(ops, self.now, random)
    }

    pub(crate) fn apply(&mut self, ops: Vec<Op>) -> Applied {
        self.try_apply(ops).expect("a commit")
    }

    pub(crate) fn one(&mut self, op: impl Into<Op>) -> Done {
        self.apply(vec![op.into()]).done.pop().expect("one answer")
    }

    /// Commits one operation by itself.
    pub(crate) fn run<O: Operation>(&mut self, operation: O) -> O::Answer {
        let done = self.one(operation);
        O::answer(done).expect("no damage")
    }

    pub(crate) fn refusal<T: Debug>(
        &mut self,
        command: impl Operation<Answer = Result<T, Refusal>>,
    ) -> Refusal {
        self.run(command).expect_err("it is refused")
    }

    pub(crate) fn endpoint_id(&mut self) -> EndpointId {
        let random = self.random.next();
        EndpointId::new(self.now, u128::from(random))
    }

    pub(crate) fn endpoint(&mut self, organization: &str, types: &[&str]) -> Arc<Endpoint> {
        let id = self.endpoint_id();
        let new = new_endpoint(id, organization, types);
        let created = self.run(CreateEndpoint::from(new));
        created.expect("it is created").endpoint
    }

    pub(crate) fn endpoint_done(
        &mut self,
        command: impl Operation<Answer = Result<Arc<Endpoint>, Refusal>>,
    ) -> Arc<Endpoint> {
        self.run(command).expect("it is done")
    }

    pub(crate) fn change(&mut self, id: EndpointId, change: EndpointChange) -> Arc<Endpoint> {
        let change = Box::new(change);
        self.endpoint_done(UpdateEndpoint { id, change })
    }

    pub(crate) fn accept(&mut self, new: NewEvent) -> Arc<Event> {
        accepted(self.one(Op::Accept(new)))
    }

    /// Accepts an `order.created` of `org`.
    pub(crate) fn order(&mut self) -> Arc<Event> {
        self.accept(event("org", "order.created"))
    }

    /// Accepts `count` of them in one commit.
    pub(crate) fn orders(&mut self, count: usize) -> Vec<Arc<Event>> {
        let ops = (0..count).map(|_| Op::Accept(event("org", "order.created")));
        let applied = self.apply(ops.collect());
        applied.done.into_iter().map(accepted).collect()
    }

    pub(crate) fn settle(&mut self, id: DeliveryId, next_step: NextStep) -> Delivery {
        let settle = Box::new(settle(id, next_step, self.now));
        *self.run(settle).expect("it is recorded")
    }

    pub(crate) fn delivery_done(
        &mut self,
        command: impl Operation<Answer = Result<Box<Delivery>, Refusal>>,
    ) -> Delivery {
        *self.run(command).expect("it is done")
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> Delivery {
        let found = self.reader().bare_delivery(id).expect("it can be read");
        found.expect("it is there")
    }

    pub(crate) fn status(&self, id: DeliveryId) -> Status {
        self.delivery(id).status
    }

    /// Returns a recovery of everything of an endpoint.
    pub(crate) fn recover_of(&self, endpoint: EndpointId, missed: bool) -> Recover {
        Recover {
            endpoint,
            since: UnixMs(0),
            until: UnixMs(u64::MAX),
            missed,
        }
    }

    /// Returns how many rounds a recovery would open.
    pub(crate) fn recoverable(&self, endpoint: EndpointId, missed: bool) -> u64 {
        let recover = self.recover_of(endpoint, missed);
        let counted = self.reader().count_recoverable(&recover);
        counted.expect("it can be counted")
    }

    /// Starts a recovery, and returns how many rounds it opens.
    pub(crate) fn recover(&mut self, recover: Recover) -> u64 {
        let counted = self.reader().count_recoverable(&recover);
        self.run(recover).expect("it begins");
        counted.expect("it can be counted")
    }

    /// Writes what bulk changes have done as far as there is room, and returns in how many commits.
    pub(crate) fn work_off(&mut self) -> usize {
        self.advance(usize::MAX)
    }

    /// The same with at most this many commits.
    pub(crate) fn advance(&mut self, most: usize) -> usize {
        let reader = self.reader();
        advance(&reader, most, |op| self.one(op))
    }

    pub(crate) fn expect_whole(&self) {
        let report = self.reader().check().expect("it can be checked");
        assert_eq!(report.damage, Vec::<String>::new());
    }

    pub(crate) fn all_deliveries(&self, filter: &DeliveryFilter, limit: usize) -> Vec<Delivery> {
        pages(|after| {
            let page = self.reader().deliveries(filter, after, limit)?;
            let items = page.items.into_iter().map(|v| v.delivery).collect();
            Ok(Page {
                items,
                damaged: page.damaged,
                next: page.next,
            })
        })
    }

    pub(crate) fn all_events(&self, filter: &EventFilter, limit: usize) -> Vec<Arc<Event>> {
        pages(|after| self.reader().events(filter, after, limit))
    }
}

/// Writes what bulk changes have done, as far as there is room and in at most this many commits; returns in how many.
pub(crate) fn advance(reader: &Reader, most: usize, mut one: impl FnMut(Op) -> Done) -> usize {
    let mut commits = 0;
    for (slot, upto) in reader.bulks() {
        let walk = reader.bulk_walk(slot, upto);
        let mut walk = walk.expect("there are some");
        while commits < most {
            let (found, ends) = match walk.step().expect("it can be read") {
                BulkFound::Work(found) => (found, false),
                BulkFound::Nothing => continue,
                BulkFound::End => (walk.end(false), true),
            };
            commits += 1;
            match one(Op::AdvanceBulk(found)) {
                Done::AdvanceBulk(left) if left.is_empty() && !ends => {}
                Done::AdvanceBulk(_) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    commits
}

/// Returns every item of a list, page after page.
pub(crate) fn pages<T>(page: impl Fn(Option<Cursor>) -> Result<Page<T>, StoreError>) -> Vec<T> {
    let mut items = Vec::new();
    let mut after = None;
    for _ in 0..100_000 {
        let page = page(after).expect("a page");
        assert_eq!(page.damaged, []);
        items.extend(page.items);
        match page.next {
            Some(next) => {
                assert_ne!(after, Some(next), "a page must get on");
                after = Some(Cursor::parse(&next.to_text()).expect("a cursor"));
            }
            None => return items,
        }
    }
    panic!("the list does not end");
}

pub(crate) fn accepted(done: Done) -> Arc<Event> {
    match done {
        Done::Accept(Ok(Accepted {
            event,
            replayed: false,
        })) => event,
        other => panic!("not accepted: {other:?}"),
    }
}

pub(crate) fn pair(event: &Event, endpoint: &Endpoint) -> DeliveryId {
    pair_of(event.id, endpoint.slot)
}

pub(crate) fn pair_of(event: EventId, slot: Slot) -> DeliveryId {
    DeliveryId { event, slot }
}

pub(crate) fn of_endpoint(endpoint: EndpointId) -> DeliveryFilter {
    DeliveryFilter {
        endpoint: Some(endpoint),
        ..DeliveryFilter::default()
    }
}

/// Asserts that the sequence numbers are 1, 2, 3 … in order of creation, per endpoint.
pub(crate) fn expect_gap_free(deliveries: &[Delivery]) {
    let mut by_slot: HashMap<Slot, Vec<u64>> = HashMap::new();
    for d in deliveries {
        by_slot.entry(d.id.slot).or_default().push(d.sequence);
    }
    for (slot, mut sequences) in by_slot {
        sequences.sort_unstable();
        let expected: Vec<u64> = (1..).take(sequences.len()).collect();
        assert_eq!(sequences, expected, "{slot:?}");
    }
}

//! A recovery covers what had ended when it was requested: what ends later stays ended, however long the recovery
//! takes.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::{
    Cancel, Delivery, DeliveryId, Endpoint, NextStep, Op, Reason, Recover, Replay, Status, UnixMs,
};

/// A recovery that waits for room, and deliveries of its endpoint that were open when it was requested.
struct QueueEntry {
    fixture: Fixture,
    endpoint: Arc<Endpoint>,
    /// The deliveries that the recovery covers.
    asked: Vec<DeliveryId>,
    open: Vec<DeliveryId>,
}

impl QueueEntry {
    /// Ten have ended, `open` wait, and there is no room for more.
    fn new(open: usize) -> Self {
        let mut fixture = Fixture::new();
        let endpoint = fixture.endpoint("org", &["*"]);
        let asked: Vec<_> = fixture
            .orders(10)
            .iter()
            .map(|event| pair(event, &endpoint))
            .collect();
        for id in &asked {
            fixture.settle(*id, NextStep::GiveUp);
        }
        let open: Vec<_> = fixture
            .orders(open)
            .iter()
            .map(|event| pair(event, &endpoint))
            .collect();
        set_room(&mut fixture, open.len() as u64);
        let recover = fixture.recover_of(endpoint.id, false);
        assert_eq!(fixture.recover(recover), 10);
        assert!(fixture.reader().bulk_waits());
        Self {
            fixture,
            endpoint,
            asked,
            open,
        }
    }

    /// Checks what a reader sees now, after a restart, and once the recovery is done.
    fn expect_always(&mut self, id: DeliveryId, expected: impl Fn(&Delivery)) {
        expected(&self.fixture.delivery(id));
        self.fixture.reopen();
        set_room(&mut self.fixture, self.open.len() as u64);
        expected(&self.fixture.delivery(id));
        set_room(&mut self.fixture, 1_000_000);
        self.fixture.work_off();
        assert!(!self.fixture.reader().bulk_waits());
        expected(&self.fixture.delivery(id));
        for asked in &self.asked {
            let d = self.fixture.delivery(*asked);
            assert_eq!((d.status, d.round), (Status::Pending, 2));
        }
        self.fixture.expect_whole();
    }
}

fn set_room(fixture: &mut Fixture, pending_limit: u64) {
    fixture.reader().set_limits(pending_limit, 1_000);
}

#[test]
fn a_delivery_cancelled_while_a_recovery_waits_stays_cancelled() {
    let mut w = QueueEntry::new(1);
    let id = w.open[0];
    let told = w.fixture.delivery_done(Cancel(id));
    let expected = (Status::Failed, Some(Reason::Cancelled), 1);
    assert_eq!((told.status, told.reason, told.round), expected);
    w.expect_always(id, |d| assert_eq!((d.status, d.reason, d.round), expected));
}

#[test]
fn a_delivery_that_an_attempt_ends_while_a_recovery_waits_stays_ended() {
    for (verdict, status, reason) in [
        (NextStep::GiveUp, Status::Abandoned, None),
        (NextStep::Gone, Status::Failed, Some(Reason::Gone)),
    ] {
        let mut w = QueueEntry::new(1);
        let id = w.open[0];
        let told = w.fixture.settle(id, verdict);
        let expected = (status, reason, 1);
        assert_eq!((told.status, told.reason, told.round), expected);
        w.expect_always(id, |d| assert_eq!((d.status, d.reason, d.round), expected));
    }
}

#[test]
fn a_delivery_discarded_while_a_recovery_waits_stays_in_its_round_once_written() {
    let mut w = QueueEntry::new(1);
    let id = w.open[0];
    w.fixture.change(w.endpoint.id, activate(false));
    w.fixture.change(
        w.endpoint.id,
        EndpointChange {
            discard_held: true,
            ..activate(true)
        },
    );
    let expected = (Status::Failed, Some(Reason::Discarded), 1);
    let seen = |d: &Delivery| (d.status, d.reason, d.round);
    assert_eq!(seen(&w.fixture.delivery(id)), expected);
    w.fixture.work_off();
    assert_eq!(seen(&w.fixture.delivery(id)), expected);
    // The mark ends the rounds of the recovery too.
    set_room(&mut w.fixture, 1_000_000);
    w.fixture.work_off();
    assert_eq!(seen(&w.fixture.delivery(id)), expected);
    for asked in &w.asked {
        let d = w.fixture.delivery(*asked);
        assert_eq!((d.status, d.round), (Status::Failed, 2));
    }
    w.fixture.expect_whole();
}

#[test]
fn a_round_opened_while_a_recovery_waits_and_ended_again_stays_ended() {
    let mut w = QueueEntry::new(1);
    // Its success makes room for one round.
    w.fixture.settle(w.open[0], NextStep::Success);
    let again = w.asked.remove(3);
    let opened = w.fixture.delivery_done(Replay {
        event: again.event,
        endpoint: w.endpoint.id,
    });
    assert_eq!((opened.status, opened.round), (Status::Pending, 3));
    w.fixture.settle(again, NextStep::GiveUp);
    let expected = (Status::Abandoned, 3);
    w.expect_always(again, |d| assert_eq!((d.status, d.round), expected));
}

#[test]
fn a_delivery_that_ends_between_two_recoveries_is_reopened_by_the_second_only() {
    let mut w = QueueEntry::new(2);
    let [between, after] = w.open[..] else {
        panic!("two are open")
    };
    w.fixture.delivery_done(Cancel(between));
    w.fixture.pass_ms(1_000);
    let second = w.fixture.recover_of(w.endpoint.id, false);
    assert_eq!(w.fixture.recover(second), 1);
    let opened_at = w.fixture.now;
    w.fixture.pass_ms(1_000);
    w.fixture.delivery_done(Cancel(after));
    let reopened = w.fixture.delivery(between);
    assert_eq!((reopened.status, reopened.round), (Status::Pending, 2));
    assert_eq!(reopened.updated_at, opened_at);
    // One that the first recovery reopens is not part of the second, even if it ends before the second is done.
    let cancelled = w.asked.remove(9);
    w.fixture.delivery_done(Cancel(cancelled));
    w.expect_always(after, |d| {
        assert_eq!((d.status, d.round), (Status::Failed, 1));
    });
    let d = w.fixture.delivery(cancelled);
    assert_eq!((d.status, d.round), (Status::Failed, 2));
    let d = w.fixture.delivery(between);
    assert_eq!((d.status, d.round), (Status::Pending, 2));
}

#[test]
fn a_recovery_opens_as_many_as_counted_whatever_ends_meanwhile() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(1_500);
    let ops = events.iter().map(|event| {
        let settle = settle(pair(event, &endpoint), NextStep::GiveUp, fixture.now);
        Op::Settle(Box::new(settle))
    });
    fixture.apply(ops.collect());
    let later = pair(&fixture.order(), &endpoint);
    let asked = Recover {
        until: UnixMs(u64::MAX),
        ..fixture.recover_of(endpoint.id, false)
    };
    assert_eq!(fixture.recover(asked), 1_500);
    assert!(fixture.reader().bulk_waits());
    fixture.delivery_done(Cancel(later));
    assert_eq!(fixture.status(later), Status::Failed);
    fixture.work_off();
    assert_eq!(fixture.status(later), Status::Failed);
    assert_eq!(fixture.reader().open_count(), 1_500);
    // When requested again, it is recovered.
    let asked = fixture.recover_of(endpoint.id, false);
    assert_eq!(fixture.recover(asked), 1);
    assert_eq!(fixture.status(later), Status::Pending);
    fixture.expect_whole();
}

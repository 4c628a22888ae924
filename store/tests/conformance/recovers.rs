//! A recovery covers what had ended when it was requested: what ends later stays ended, however long the recovery
//! takes.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::{
    Cancel, Delivery, DeliveryId, Endpoint, Op, Reason, Recover, Replay, Status, UnixMs, Verdict,
};

/// A recovery that waits for room, and deliveries of its endpoint that were open when it was requested.
struct Waiting {
    bed: Bed,
    endpoint: Arc<Endpoint>,
    /// The deliveries that the recovery covers.
    asked: Vec<DeliveryId>,
    open: Vec<DeliveryId>,
}

impl Waiting {
    /// Ten have ended, `open` wait, and there is no room for more.
    fn new(open: usize) -> Self {
        let mut bed = Bed::new();
        let endpoint = bed.endpoint("org", &["*"]);
        let asked: Vec<_> = bed
            .orders(10)
            .iter()
            .map(|event| pair(event, &endpoint))
            .collect();
        for id in &asked {
            bed.settle(*id, Verdict::GiveUp);
        }
        let open: Vec<_> = bed
            .orders(open)
            .iter()
            .map(|event| pair(event, &endpoint))
            .collect();
        set_room(&mut bed, open.len() as u64);
        let recover = bed.recover_of(endpoint.id, false);
        assert_eq!(bed.recover(recover), 10);
        assert!(bed.reader().bulk_waits());
        Self {
            bed,
            endpoint,
            asked,
            open,
        }
    }

    /// Checks what a reader sees now, after a restart, and once the recovery is done.
    fn expect_always(&mut self, id: DeliveryId, expected: impl Fn(&Delivery)) {
        expected(&self.bed.delivery(id));
        self.bed.reopen();
        set_room(&mut self.bed, self.open.len() as u64);
        expected(&self.bed.delivery(id));
        set_room(&mut self.bed, 1_000_000);
        self.bed.work_off();
        assert!(!self.bed.reader().bulk_waits());
        expected(&self.bed.delivery(id));
        for asked in &self.asked {
            let d = self.bed.delivery(*asked);
            assert_eq!((d.status, d.round), (Status::Pending, 2));
        }
        self.bed.expect_whole();
    }
}

fn set_room(bed: &mut Bed, pending_limit: u64) {
    bed.reader().set_limits(pending_limit, 1_000);
}

#[test]
fn what_is_cancelled_while_a_recover_waits_stays_cancelled() {
    let mut w = Waiting::new(1);
    let id = w.open[0];
    let told = w.bed.delivery_done(Cancel(id));
    let expected = (Status::Failed, Some(Reason::Cancelled), 1);
    assert_eq!((told.status, told.reason, told.round), expected);
    w.expect_always(id, |d| assert_eq!((d.status, d.reason, d.round), expected));
}

#[test]
fn what_an_attempt_ends_while_a_recover_waits_stays_ended() {
    for (verdict, status, reason) in [
        (Verdict::GiveUp, Status::Abandoned, None),
        (Verdict::Gone, Status::Failed, Some(Reason::Gone)),
    ] {
        let mut w = Waiting::new(1);
        let id = w.open[0];
        let told = w.bed.settle(id, verdict);
        let expected = (status, reason, 1);
        assert_eq!((told.status, told.reason, told.round), expected);
        w.expect_always(id, |d| assert_eq!((d.status, d.reason, d.round), expected));
    }
}

#[test]
fn what_is_discarded_while_a_recover_waits_stays_in_its_round_once_it_is_written_out() {
    let mut w = Waiting::new(1);
    let id = w.open[0];
    w.bed.change(w.endpoint.id, activate(false));
    w.bed.change(
        w.endpoint.id,
        EndpointChange {
            discard_held: true,
            ..activate(true)
        },
    );
    let expected = (Status::Failed, Some(Reason::Discarded), 1);
    let seen = |d: &Delivery| (d.status, d.reason, d.round);
    assert_eq!(seen(&w.bed.delivery(id)), expected);
    w.bed.work_off();
    assert_eq!(seen(&w.bed.delivery(id)), expected);
    // The mark ends the rounds of the recovery too.
    set_room(&mut w.bed, 1_000_000);
    w.bed.work_off();
    assert_eq!(seen(&w.bed.delivery(id)), expected);
    for asked in &w.asked {
        let d = w.bed.delivery(*asked);
        assert_eq!((d.status, d.round), (Status::Failed, 2));
    }
    w.bed.expect_whole();
}

#[test]
fn a_round_opened_while_a_recover_waits_and_ended_again_stays_ended() {
    let mut w = Waiting::new(1);
    // Its success makes room for one round.
    w.bed.settle(w.open[0], Verdict::Success);
    let again = w.asked.remove(3);
    let opened = w.bed.delivery_done(Replay {
        event: again.event,
        endpoint: w.endpoint.id,
    });
    assert_eq!((opened.status, opened.round), (Status::Pending, 3));
    w.bed.settle(again, Verdict::GiveUp);
    let expected = (Status::Abandoned, 3);
    w.expect_always(again, |d| assert_eq!((d.status, d.round), expected));
}

#[test]
fn what_ends_between_two_recovers_is_recovered_by_the_second_alone() {
    let mut w = Waiting::new(2);
    let [between, after] = w.open[..] else {
        panic!("two are open")
    };
    w.bed.delivery_done(Cancel(between));
    w.bed.pass_ms(1_000);
    let second = w.bed.recover_of(w.endpoint.id, false);
    assert_eq!(w.bed.recover(second), 1);
    let opened_at = w.bed.now;
    w.bed.pass_ms(1_000);
    w.bed.delivery_done(Cancel(after));
    let reopened = w.bed.delivery(between);
    assert_eq!((reopened.status, reopened.round), (Status::Pending, 2));
    assert_eq!(reopened.updated_at, opened_at);
    // One that the first recovery reopens is not part of the second, even if it ends before the second is done.
    let cancelled = w.asked.remove(9);
    w.bed.delivery_done(Cancel(cancelled));
    w.expect_always(after, |d| {
        assert_eq!((d.status, d.round), (Status::Failed, 1));
    });
    let d = w.bed.delivery(cancelled);
    assert_eq!((d.status, d.round), (Status::Failed, 2));
    let d = w.bed.delivery(between);
    assert_eq!((d.status, d.round), (Status::Pending, 2));
}

#[test]
fn a_recover_opens_as_many_as_was_told_whatever_ends_meanwhile() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = bed.orders(1_500);
    let ops = events.iter().map(|event| {
        let settle = settle(pair(event, &endpoint), Verdict::GiveUp, bed.now);
        Op::Settle(Box::new(settle))
    });
    bed.apply(ops.collect());
    let later = pair(&bed.order(), &endpoint);
    let asked = Recover {
        until: UnixMs(u64::MAX),
        ..bed.recover_of(endpoint.id, false)
    };
    assert_eq!(bed.recover(asked), 1_500);
    assert!(bed.reader().bulk_waits());
    bed.delivery_done(Cancel(later));
    assert_eq!(bed.status(later), Status::Failed);
    bed.work_off();
    assert_eq!(bed.status(later), Status::Failed);
    assert_eq!(bed.reader().open_count(), 1_500);
    // When requested again, it is recovered.
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(bed.recover(asked), 1);
    assert_eq!(bed.status(later), Status::Pending);
    bed.expect_whole();
}

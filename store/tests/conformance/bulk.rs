//! Changes of very many deliveries: recovery, deletion, discard.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::query::DeliveryFilter;
use stormhook_store::{
    Accepted, Cancel, Change, DeleteEndpoint, Done, Endpoint, Event, NextStep, Op, Reason, Recover,
    Refusal, Retry, Status, Trigger, UnixMs, UpdateEndpoint,
};

fn settle_all(
    fixture: &mut Fixture,
    events: &[Arc<Event>],
    endpoint: &Endpoint,
    next_step: NextStep,
) {
    let ops = events
        .iter()
        .map(|e| Op::Settle(Box::new(settle(pair(e, endpoint), next_step, fixture.now))));
    fixture.apply(ops.collect());
}

#[test]
fn a_recovery_reopens_undelivered_deliveries_of_its_span_and_nothing_else() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let other = fixture.endpoint("org", &["*"]);
    let mut by_hour = Vec::new();
    for _ in 0..4 {
        by_hour.push(fixture.orders(3));
        fixture.pass_ms(HOUR_MS);
    }
    for events in &by_hour {
        fixture.settle(pair(&events[0], &endpoint), NextStep::GiveUp);
        fixture.settle(pair(&events[1], &endpoint), NextStep::Success);
        fixture.settle(pair(&events[2], &endpoint), NextStep::Gone);
        fixture.settle(pair(&events[0], &other), NextStep::GiveUp);
    }
    let asked = Recover {
        since: START.plus_ms(HOUR_MS),
        until: START.plus_ms(3 * HOUR_MS),
        ..fixture.recover_of(endpoint.id, false)
    };
    assert_eq!(fixture.recover(asked), 4);
    fixture.work_off();
    assert!(!fixture.reader().bulk_waits());
    for (hour, events) in by_hour.iter().enumerate() {
        let within = hour == 1 || hour == 2;
        for n in [0, 2] {
            let d = fixture.delivery(pair(&events[n], &endpoint));
            assert_eq!(d.status.is_open(), within, "hour {hour}");
            assert_eq!(d.round, 1 + u32::from(within));
        }
        assert_eq!(fixture.status(pair(&events[1], &endpoint)), Status::Success);
        assert_eq!(fixture.status(pair(&events[0], &other)), Status::Abandoned);
    }
    let opened = fixture.open().into_iter().filter(|w| w.later_round);
    assert!(opened.clone().all(|w| w.trigger == Trigger::Replay));
    assert_eq!(opened.count(), 4);
    fixture.expect_whole();
}

#[test]
fn a_recovery_with_missed_events_opens_first_rounds_for_them() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["order.*"]);
    fixture.order();
    fixture.change(endpoint.id, activate(false));
    let missed = fixture.orders(3);
    let not_asked_for = fixture.accept(event("org", "invoice.paid"));
    let of_another = fixture.accept(event("org2", "order.created"));
    fixture.change(endpoint.id, activate(true));
    fixture.order();
    assert_eq!(fixture.recoverable(endpoint.id, false), 0);
    let asked = fixture.recover_of(endpoint.id, true);
    assert_eq!(fixture.recover(asked), 3);
    fixture.work_off();
    let sequences: Vec<_> = missed
        .iter()
        .map(|e| fixture.delivery(pair(e, &endpoint)).sequence)
        .collect();
    assert_eq!(sequences, [3, 4, 5]);
    for event in [not_asked_for, of_another] {
        let found = fixture
            .reader()
            .bare_delivery(pair(&event, &endpoint))
            .unwrap();
        assert_eq!(found, None);
    }
    // They are no longer missed.
    assert_eq!(fixture.recoverable(endpoint.id, true), 0);
    fixture.expect_whole();
}

#[test]
fn a_recovery_of_very_many_is_written_in_steps_and_opens_as_many_as_counted() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let ended = fixture.orders(2_300);
    settle_all(&mut fixture, &ended, &endpoint, NextStep::GiveUp);
    fixture.change(endpoint.id, activate(false));
    fixture.orders(1_700);
    fixture.change(endpoint.id, activate(true));
    let asked = fixture.recover_of(endpoint.id, true);
    assert_eq!(fixture.recover(asked), 4_000);
    assert_eq!(fixture.advance(1), 1);
    assert!(fixture.reader().bulk_waits());
    fixture.reopen();
    assert!(fixture.reader().bulk_waits());
    // A delivery that fails again meanwhile is not recovered again, and events accepted meanwhile are not part of it.
    fixture.pass_ms(5);
    let again: Vec<_> = fixture.open().into_iter().take(10).collect();
    let ops = again
        .iter()
        .map(|w| Op::Settle(Box::new(settle(w.id, NextStep::GiveUp, fixture.now))));
    fixture.apply(ops.collect());
    fixture.order();
    let steps = fixture.work_off();
    assert!((4..=6).contains(&steps), "{steps}");
    assert!(!fixture.reader().bulk_waits());
    assert_eq!(fixture.reader().open_count(), 4_000 - 10 + 1);
    for w in again {
        assert_eq!(fixture.delivery(w.id).round, 2);
    }
    expect_gap_free(&fixture.all_deliveries(&DeliveryFilter::default(), 250));
    fixture.expect_whole();
}

/// Creates more deliveries of an endpoint than one step writes, all abandoned.
pub(crate) fn abandoned(
    fixture: &mut Fixture,
    endpoint: &Endpoint,
    count: usize,
) -> Vec<Arc<Event>> {
    let events = fixture.orders(count);
    settle_all(fixture, &events, endpoint, NextStep::GiveUp);
    events
}

#[test]
fn a_recovery_of_very_many_reads_as_done_immediately() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = abandoned(&mut fixture, &endpoint, 2_500);
    let asked = fixture.recover_of(endpoint.id, false);
    fixture.pass_ms(1_000);
    let asked_at = fixture.now;
    fixture.recover(asked);
    fixture.pass_ms(1_000);
    for step in 0..3 {
        let all = fixture.all_deliveries(&of_endpoint(endpoint.id), 250);
        assert_eq!(all.len(), 2_500);
        for d in &all {
            let seen = (d.status, d.round, d.attempt_shown(), d.updated_at);
            assert_eq!(seen, (Status::Pending, 2, 1, asked_at), "step {step}");
            assert_eq!(d.attempts.len(), 1);
        }
        let ended = DeliveryFilter {
            status: Some(Status::Abandoned),
            ..DeliveryFilter::default()
        };
        assert_eq!(fixture.all_deliveries(&ended, 250), []);
        assert_eq!(fixture.recoverable(endpoint.id, false), 0);
        match step {
            0 => fixture.reopen(),
            1 => assert!(fixture.work_off() > 2),
            _ => {}
        }
    }
    assert_eq!(fixture.reader().open_count(), 2_500);
    assert_eq!(
        fixture.status(pair(&events[2_499], &endpoint)),
        Status::Pending
    );
    fixture.expect_whole();
}

#[test]
fn a_delivery_that_reads_as_recovered_can_be_changed_before_it_is_written() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = abandoned(&mut fixture, &endpoint, 2_500);
    let [cancelled, retried] = [&events[2_400], &events[2_401]].map(|e| pair(e, &endpoint));
    let asked = fixture.recover_of(endpoint.id, false);
    fixture.recover(asked);
    let ended = fixture.delivery_done(Cancel(cancelled));
    assert_eq!(
        (ended.status, ended.reason),
        (Status::Failed, Some(Reason::Cancelled))
    );
    let extra = fixture.delivery_done(Retry(retried));
    assert_eq!(
        (extra.status, extra.round, extra.extra),
        (Status::Pending, 2, true)
    );
    fixture.work_off();
    assert_eq!(fixture.status(cancelled), Status::Failed);
    assert_eq!(fixture.delivery(retried).round, 2);
    assert_eq!(fixture.reader().open_count(), 2_499);
    fixture.expect_whole();
}

#[test]
fn the_rest_of_a_recovery_continues_for_an_endpoint_disabled_since() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    abandoned(&mut fixture, &endpoint, 1_500);
    let asked = fixture.recover_of(endpoint.id, false);
    fixture.recover(asked);
    fixture.change(endpoint.id, activate(false));
    fixture.work_off();
    assert_eq!(fixture.open().len(), 1_500);
    fixture.expect_whole();
}

/// Starts a recovery of twice `each` deliveries with room for only this many.
pub(crate) fn recovering(pending_limit: u64, each: usize) -> (Fixture, Arc<Endpoint>) {
    let mut fixture = Fixture::with(|options| options.pending_limit = pending_limit);
    let endpoint = fixture.endpoint("org", &["*"]);
    for _ in 0..2 {
        abandoned(&mut fixture, &endpoint, each);
    }
    let asked = fixture.recover_of(endpoint.id, false);
    assert_eq!(fixture.recover(asked), 2 * each as u64);
    fixture.work_off();
    (fixture, endpoint)
}

#[test]
fn a_recovery_waits_at_the_limit_of_open_deliveries() {
    let (mut fixture, _) = recovering(1_200, 1_000);
    fixture.work_off();
    assert_eq!(fixture.open().len(), 1_200);
    assert!(fixture.reader().bulk_waits());
    for waiting in fixture.open() {
        fixture.settle(waiting.id, NextStep::Success);
    }
    fixture.work_off();
    assert!(!fixture.reader().bulk_waits());
    assert_eq!(fixture.open().len(), 800);
    fixture.expect_whole();
}

#[test]
fn the_rest_of_a_recovery_ends_with_its_endpoint() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    abandoned(&mut fixture, &endpoint, 2_500);
    let asked = fixture.recover_of(endpoint.id, false);
    fixture.recover(asked);
    fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    for step in 0..2 {
        let all = fixture.all_deliveries(&of_endpoint(endpoint.id), 250);
        assert_eq!(all.len(), 2_500);
        for d in &all {
            let seen = (d.status, d.reason, d.round);
            let expected = (Status::Failed, Some(Reason::EndpointDeleted), 2);
            assert_eq!(seen, expected, "step {step}");
        }
        if step == 0 {
            fixture.work_off();
        }
    }
    assert!(!fixture.reader().bulk_waits());
    assert_eq!(fixture.open(), []);
    fixture.expect_whole();
}

#[test]
fn bulk_changes_go_when_nothing_is_left_to_be_written() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = abandoned(&mut fixture, &endpoint, 1_500);
    let held = fixture.order();
    fixture.change(endpoint.id, activate(false));
    fixture.change(endpoint.id, discard());
    let asked = fixture.recover_of(endpoint.id, false);
    assert_eq!(fixture.recover(asked), 1_501);
    let updated_at = fixture.reader().endpoint(endpoint.id).unwrap().updated_at;
    fixture.pass_ms(1_000);
    fixture.work_off();
    assert_eq!(fixture.reader().bulks(), []);
    fixture.reopen();
    assert_eq!(fixture.reader().bulks(), []);
    let after = fixture.reader().endpoint(endpoint.id).unwrap();
    assert_eq!(after.updated_at, updated_at);
    for event in [&held, &events[0], &events[1_499]] {
        let d = fixture.delivery(pair(event, &endpoint));
        assert_eq!((d.status, d.round), (Status::Pending, 2));
    }
    fixture.expect_whole();
}

#[test]
fn deleting_an_endpoint_ends_what_waits_for_it_at_once_for_every_reader() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let other = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(1_500);
    fixture.settle(pair(&events[0], &endpoint), NextStep::Success);
    fixture.pass_ms(1_000);
    let applied = fixture.apply(vec![Op::DeleteEndpoint(DeleteEndpoint { id: endpoint.id })]);
    let told = applied.changes.iter();
    assert!(
        told.clone().any(
            |c| matches!(c, Change::Bulk(slot, bulk) if *slot == endpoint.slot && bulk.ends())
        )
    );
    let deleted_at = fixture.now;
    fixture.pass_ms(1_000);
    for step in 0..3 {
        assert!(fixture.reader().endpoint(endpoint.id).is_none());
        let mark = fixture
            .reader()
            .endpoint_or_mark(endpoint.id)
            .expect("a mark");
        assert!(mark.secrets.is_empty() && mark.deleted_at == Some(deleted_at));
        let d = fixture.delivery(pair(&events[7], &endpoint));
        assert_eq!((d.status, d.due), (Status::Failed, None), "step {step}");
        assert_eq!(d.reason, Some(Reason::EndpointDeleted));
        assert_eq!(d.updated_at, deleted_at);
        let failed = DeliveryFilter {
            status: Some(Status::Failed),
            ..of_endpoint(endpoint.id)
        };
        assert_eq!(fixture.all_deliveries(&failed, 250).len(), 1_499);
        let open_for_others = DeliveryFilter {
            status: Some(Status::Pending),
            ..DeliveryFilter::default()
        };
        let pending = fixture.all_deliveries(&open_for_others, 250);
        assert!(pending.iter().all(|d| d.id.slot == other.slot));
        assert_eq!(pending.len(), 1_500);
        match step {
            0 => fixture.reopen(),
            1 => assert!(fixture.work_off() > 1),
            _ => {}
        }
    }
    assert_eq!(fixture.reader().open_count(), 1_500);
    assert_eq!(fixture.open().len(), 1_500);
    assert_eq!(fixture.status(pair(&events[0], &endpoint)), Status::Success);
    fixture.expect_whole();
}

pub(crate) fn discard() -> EndpointChange {
    EndpointChange {
        discard_held: true,
        ..activate(true)
    }
}

#[test]
fn discarding_ends_what_was_held_and_nothing_that_comes_after() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let held = fixture.orders(5);
    fixture.change(endpoint.id, activate(false));
    fixture.pass_ms(1_000);
    let applied = fixture.apply(vec![
        Op::UpdateEndpoint(UpdateEndpoint {
            id: endpoint.id,
            change: Box::new(discard()),
        }),
        Op::Accept(event("org", "order.created")),
    ]);
    let after = match applied.done.as_slice() {
        [
            Done::UpdateEndpoint(Ok(_)),
            Done::Accept(Ok(Accepted {
                event,
                replayed: false,
            })),
        ] => pair(event, &endpoint),
        other => panic!("{other:?}"),
    };
    let discarded_at = fixture.now;
    let d = fixture.delivery(pair(&held[0], &endpoint));
    assert_eq!(
        (d.status, d.reason),
        (Status::Failed, Some(Reason::Discarded))
    );
    assert_eq!(d.updated_at, discarded_at);
    assert_eq!(fixture.status(after), Status::Pending);
    // It doesn't end a new round of a discarded one, although the row was never written.
    let again = fixture.delivery_done(Retry(pair(&held[1], &endpoint)));
    assert_eq!((again.round, again.status), (2, Status::Pending));
    fixture.work_off();
    assert_eq!(fixture.status(pair(&held[1], &endpoint)), Status::Pending);
    let open: Vec<_> = fixture.open().iter().map(|w| w.id).collect();
    assert_eq!(open.len(), 2);
    assert!(open.contains(&after) && open.contains(&pair(&held[1], &endpoint)));
    fixture.expect_whole();
}

#[test]
fn an_endpoint_that_is_active_already_has_nothing_held_to_discard() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    fixture.change(endpoint.id, discard());
    assert_eq!(fixture.status(pair(&event, &endpoint)), Status::Pending);
}

#[test]
fn no_bulk_change_is_forgotten_and_one_too_many_is_refused() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push((pair(&fixture.order(), &endpoint), fixture.now));
        fixture.change(endpoint.id, activate(false));
        fixture.change(endpoint.id, discard());
        fixture.pass_ms(1_000);
    }
    let after = pair(&fixture.order(), &endpoint);
    fixture.change(endpoint.id, activate(false));
    let op = |change| UpdateEndpoint {
        id: endpoint.id,
        change: Box::new(change),
    };
    assert_eq!(fixture.refusal(op(discard())), Refusal::TooManyBulk);
    assert!(!fixture.reader().endpoint(endpoint.id).unwrap().active);
    fixture.change(endpoint.id, activate(true));
    let asked = fixture.recover_of(endpoint.id, false);
    assert_eq!(fixture.refusal(asked), Refusal::TooManyBulk);
    for step in 0..3 {
        for (id, at) in &ids {
            let d = fixture.delivery(*id);
            let seen = (d.status, d.reason, d.updated_at);
            let expected = (Status::Failed, Some(Reason::Discarded), *at);
            assert_eq!(seen, expected, "step {step}");
        }
        assert_eq!(fixture.status(after), Status::Pending);
        match step {
            0 => fixture.reopen(),
            1 => drop(fixture.work_off()),
            _ => {}
        }
    }
    fixture.change(endpoint.id, activate(false));
    fixture.change(endpoint.id, discard());
    assert_eq!(fixture.status(after), Status::Failed);
    // An endpoint can always be deleted.
    for _ in 0..63 {
        fixture.change(endpoint.id, activate(false));
        fixture.change(endpoint.id, discard());
    }
    fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    fixture.work_off();
    fixture.expect_whole();
}

#[test]
fn what_was_discarded_is_recovered_whether_it_was_written_or_not() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let other = fixture.endpoint("org", &["*"]);
    fixture.orders(2_500);
    fixture.change(endpoint.id, activate(false));
    fixture.change(endpoint.id, discard());
    // Some are written, most are not.
    assert_eq!(fixture.advance(1), 1);
    let asked = fixture.recover_of(endpoint.id, false);
    assert_eq!(fixture.recover(asked), 2_500);
    fixture.work_off();
    let all = fixture.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(all.len(), 2_500);
    assert!(
        all.iter()
            .all(|d| d.status == Status::Pending && d.round == 2)
    );
    let others = fixture.all_deliveries(&of_endpoint(other.id), 250);
    assert!(others.iter().all(|d| d.round == 1));
    assert_eq!(fixture.recoverable(endpoint.id, true), 0);
    fixture.expect_whole();
}

#[test]
fn an_attempt_that_was_on_the_wire_when_its_delivery_ended_is_recorded_and_changes_nothing() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(3);
    fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    let next = UnixMs(fixture.now.0 + 60_000);
    for (event, verdict) in events.iter().zip([
        NextStep::Success,
        NextStep::RetryAt(next),
        NextStep::Interrupted,
    ]) {
        let d = fixture.settle(pair(event, &endpoint), verdict);
        assert_eq!((d.status, d.attempts.len()), (Status::Failed, 1));
        assert_eq!(d.reason, Some(Reason::EndpointDeleted));
    }
    assert_eq!(fixture.open(), []);
    fixture.expect_whole();
}

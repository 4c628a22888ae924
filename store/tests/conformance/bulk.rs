//! Changes of very many deliveries: recovery, deletion, discard.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::query::DeliveryFilter;
use stormhook_store::{
    Accepted, BulkFound, Cancel, Change, DeleteEndpoint, Done, Endpoint, Event, Op, Reason,
    Recover, Refusal, Retry, Status, Trigger, UnixMs, UpdateEndpoint, Verdict,
};

fn settle_all(bed: &mut Bed, events: &[Arc<Event>], endpoint: &Endpoint, verdict: Verdict) {
    let ops = events
        .iter()
        .map(|e| Op::Settle(Box::new(settle(pair(e, endpoint), verdict, bed.now))));
    bed.apply(ops.collect());
}

#[test]
fn a_recover_opens_what_ended_badly_in_its_time_and_nothing_else() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let other = bed.endpoint("org", &["*"]);
    let mut by_hour = Vec::new();
    for _ in 0..4 {
        by_hour.push(bed.orders(3));
        bed.pass_ms(HOUR_MS);
    }
    for events in &by_hour {
        bed.settle(pair(&events[0], &endpoint), Verdict::GiveUp);
        bed.settle(pair(&events[1], &endpoint), Verdict::Success);
        bed.settle(pair(&events[2], &endpoint), Verdict::Gone);
        bed.settle(pair(&events[0], &other), Verdict::GiveUp);
    }
    let asked = Recover {
        since: START.plus_ms(HOUR_MS),
        until: START.plus_ms(3 * HOUR_MS),
        ..bed.recover_of(endpoint.id, false)
    };
    assert_eq!(bed.recover(asked), 4);
    bed.work_off();
    assert!(!bed.reader().bulk_waits());
    for (hour, events) in by_hour.iter().enumerate() {
        let within = hour == 1 || hour == 2;
        for n in [0, 2] {
            let d = bed.delivery(pair(&events[n], &endpoint));
            assert_eq!(d.status.is_open(), within, "hour {hour}");
            assert_eq!(d.round, 1 + u32::from(within));
        }
        assert_eq!(bed.status(pair(&events[1], &endpoint)), Status::Success);
        assert_eq!(bed.status(pair(&events[0], &other)), Status::Abandoned);
    }
    let opened = bed.open().into_iter().filter(|w| w.later_round);
    assert!(opened.clone().all(|w| w.trigger == Trigger::Replay));
    assert_eq!(opened.count(), 4);
    bed.expect_whole();
}

#[test]
fn a_recover_of_missed_events_opens_first_rounds_for_what_it_was_inactive_for() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["order.*"]);
    bed.order();
    bed.change(endpoint.id, activate(false));
    let missed = bed.orders(3);
    let not_asked_for = bed.accept(event("org", "invoice.paid"));
    let of_another = bed.accept(event("org2", "order.created"));
    bed.change(endpoint.id, activate(true));
    bed.order();
    assert_eq!(bed.recoverable(endpoint.id, false), 0);
    let asked = bed.recover_of(endpoint.id, true);
    assert_eq!(bed.recover(asked), 3);
    bed.work_off();
    let sequences: Vec<_> = missed
        .iter()
        .map(|e| bed.delivery(pair(e, &endpoint)).sequence)
        .collect();
    assert_eq!(sequences, [3, 4, 5]);
    for event in [not_asked_for, of_another] {
        let found = bed.reader().bare_delivery(pair(&event, &endpoint)).unwrap();
        assert_eq!(found, None);
    }
    // They are no longer missed.
    assert_eq!(bed.recoverable(endpoint.id, true), 0);
    bed.expect_whole();
}

#[test]
fn a_recover_of_very_many_is_worked_off_in_steps_and_comes_to_what_was_counted() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let ended = bed.orders(2_300);
    settle_all(&mut bed, &ended, &endpoint, Verdict::GiveUp);
    bed.change(endpoint.id, activate(false));
    bed.orders(1_700);
    bed.change(endpoint.id, activate(true));
    let asked = bed.recover_of(endpoint.id, true);
    assert_eq!(bed.recover(asked), 4_000);
    assert_eq!(bed.advance(1), 1);
    assert!(bed.reader().bulk_waits());
    bed.reopen();
    assert!(bed.reader().bulk_waits());
    // A delivery that fails again meanwhile is not recovered again, and events accepted meanwhile are not part of it.
    bed.pass_ms(5);
    let again: Vec<_> = bed.open().into_iter().take(10).collect();
    let ops = again
        .iter()
        .map(|w| Op::Settle(Box::new(settle(w.id, Verdict::GiveUp, bed.now))));
    bed.apply(ops.collect());
    bed.order();
    let steps = bed.work_off();
    assert!((4..=6).contains(&steps), "{steps}");
    assert!(!bed.reader().bulk_waits());
    assert_eq!(bed.reader().open_count(), 4_000 - 10 + 1);
    for w in again {
        assert_eq!(bed.delivery(w.id).round, 2);
    }
    expect_gap_free(&bed.all_deliveries(&DeliveryFilter::default(), 250));
    bed.expect_whole();
}

/// Creates more deliveries of an endpoint than one step writes, all abandoned.
fn abandoned(bed: &mut Bed, endpoint: &Endpoint, count: usize) -> Vec<Arc<Event>> {
    let events = bed.orders(count);
    settle_all(bed, &events, endpoint, Verdict::GiveUp);
    events
}

#[test]
fn a_recover_of_very_many_reads_as_done_at_once() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = abandoned(&mut bed, &endpoint, 2_500);
    let asked = bed.recover_of(endpoint.id, false);
    bed.pass_ms(1_000);
    let asked_at = bed.now;
    bed.recover(asked);
    bed.pass_ms(1_000);
    for step in 0..3 {
        let all = bed.all_deliveries(&of_endpoint(endpoint.id), 250);
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
        assert_eq!(bed.all_deliveries(&ended, 250), []);
        assert_eq!(bed.recoverable(endpoint.id, false), 0);
        match step {
            0 => bed.reopen(),
            1 => assert!(bed.work_off() > 2),
            _ => {}
        }
    }
    assert_eq!(bed.reader().open_count(), 2_500);
    assert_eq!(bed.status(pair(&events[2_499], &endpoint)), Status::Pending);
    bed.expect_whole();
}

#[test]
fn what_reads_as_recovered_can_be_changed_before_it_is_worked_off() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = abandoned(&mut bed, &endpoint, 2_500);
    let [cancelled, retried] = [&events[2_400], &events[2_401]].map(|e| pair(e, &endpoint));
    let asked = bed.recover_of(endpoint.id, false);
    bed.recover(asked);
    let ended = bed.delivery_done(Cancel(cancelled));
    assert_eq!(
        (ended.status, ended.reason),
        (Status::Failed, Some(Reason::Cancelled))
    );
    let extra = bed.delivery_done(Retry(retried));
    assert_eq!(
        (extra.status, extra.round, extra.extra),
        (Status::Pending, 2, true)
    );
    bed.work_off();
    assert_eq!(bed.status(cancelled), Status::Failed);
    assert_eq!(bed.delivery(retried).round, 2);
    assert_eq!(bed.reader().open_count(), 2_499);
    bed.expect_whole();
}

#[test]
fn what_is_left_of_a_recover_goes_on_for_an_endpoint_switched_off_since() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    abandoned(&mut bed, &endpoint, 1_500);
    let asked = bed.recover_of(endpoint.id, false);
    bed.recover(asked);
    bed.change(endpoint.id, activate(false));
    bed.work_off();
    assert_eq!(bed.open().len(), 1_500);
    bed.expect_whole();
}

/// Starts a recovery of twice `each` deliveries with room for only this many.
fn recovering(pending_limit: u64, each: usize) -> (Bed, Arc<Endpoint>) {
    let mut bed = Bed::with(|options| options.pending_limit = pending_limit);
    let endpoint = bed.endpoint("org", &["*"]);
    for _ in 0..2 {
        abandoned(&mut bed, &endpoint, each);
    }
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(bed.recover(asked), 2 * each as u64);
    bed.work_off();
    (bed, endpoint)
}

#[test]
fn a_recover_waits_where_no_more_deliveries_may_wait() {
    let (mut bed, _) = recovering(1_200, 1_000);
    bed.work_off();
    assert_eq!(bed.open().len(), 1_200);
    assert!(bed.reader().bulk_waits());
    for waiting in bed.open() {
        bed.settle(waiting.id, Verdict::Success);
    }
    bed.work_off();
    assert!(!bed.reader().bulk_waits());
    assert_eq!(bed.open().len(), 800);
    bed.expect_whole();
}

/// It reads as open: what a caller was told will be sent isn't past its retention.
#[test]
fn what_a_recover_has_no_room_for_is_not_swept() {
    let (mut bed, endpoint) = recovering(400, 400);
    bed.pass_ms(90 * DAY_MS);
    let horizon = bed.now;
    bed.sweep(horizon, horizon);
    let all = bed.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(all.len(), 800);
    assert!(all.iter().all(|d| d.status == Status::Pending), "{all:?}");
    for waiting in bed.open() {
        bed.settle(waiting.id, Verdict::Success);
    }
    bed.work_off();
    assert_eq!(bed.open().len(), 400);
    for waiting in bed.open() {
        bed.settle(waiting.id, Verdict::Success);
    }
    bed.sweep(horizon, horizon);
    let left = bed.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(left.len(), 0);
    bed.expect_whole();
}

#[test]
fn what_is_left_of_a_recover_ends_with_its_endpoint() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    abandoned(&mut bed, &endpoint, 2_500);
    let asked = bed.recover_of(endpoint.id, false);
    bed.recover(asked);
    bed.endpoint_done(DeleteEndpoint { id: endpoint.id });
    for step in 0..2 {
        let all = bed.all_deliveries(&of_endpoint(endpoint.id), 250);
        assert_eq!(all.len(), 2_500);
        for d in &all {
            let seen = (d.status, d.reason, d.round);
            let expected = (Status::Failed, Some(Reason::EndpointDeleted), 2);
            assert_eq!(seen, expected, "step {step}");
        }
        if step == 0 {
            bed.work_off();
        }
    }
    assert!(!bed.reader().bulk_waits());
    assert_eq!(bed.open(), []);
    bed.expect_whole();
}

#[test]
fn bulk_changes_go_when_nothing_is_left_to_be_written() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = abandoned(&mut bed, &endpoint, 1_500);
    let held = bed.order();
    bed.change(endpoint.id, activate(false));
    bed.change(endpoint.id, discard());
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(bed.recover(asked), 1_501);
    let updated_at = bed.reader().endpoint(endpoint.id).unwrap().updated_at;
    bed.pass_ms(1_000);
    bed.work_off();
    assert_eq!(bed.reader().bulks(), []);
    bed.reopen();
    assert_eq!(bed.reader().bulks(), []);
    let after = bed.reader().endpoint(endpoint.id).unwrap();
    assert_eq!(after.updated_at, updated_at);
    for event in [&held, &events[0], &events[1_499]] {
        let d = bed.delivery(pair(event, &endpoint));
        assert_eq!((d.status, d.round), (Status::Pending, 2));
    }
    bed.expect_whole();
}

#[test]
fn deleting_an_endpoint_ends_what_waits_for_it_at_once_for_every_reader() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let other = bed.endpoint("org", &["*"]);
    let events = bed.orders(1_500);
    bed.settle(pair(&events[0], &endpoint), Verdict::Success);
    bed.pass_ms(1_000);
    let applied = bed.apply(vec![Op::DeleteEndpoint(DeleteEndpoint { id: endpoint.id })]);
    let told = applied.changes.iter();
    assert!(
        told.clone().any(
            |c| matches!(c, Change::Bulk(slot, bulk) if *slot == endpoint.slot && bulk.ends())
        )
    );
    let deleted_at = bed.now;
    bed.pass_ms(1_000);
    for step in 0..3 {
        assert!(bed.reader().endpoint(endpoint.id).is_none());
        let mark = bed.reader().endpoint_or_mark(endpoint.id).expect("a mark");
        assert!(mark.secrets.is_empty() && mark.deleted_at == Some(deleted_at));
        let d = bed.delivery(pair(&events[7], &endpoint));
        assert_eq!((d.status, d.due), (Status::Failed, None), "step {step}");
        assert_eq!(d.reason, Some(Reason::EndpointDeleted));
        assert_eq!(d.updated_at, deleted_at);
        let failed = DeliveryFilter {
            status: Some(Status::Failed),
            ..of_endpoint(endpoint.id)
        };
        assert_eq!(bed.all_deliveries(&failed, 250).len(), 1_499);
        let open_for_others = DeliveryFilter {
            status: Some(Status::Pending),
            ..DeliveryFilter::default()
        };
        let pending = bed.all_deliveries(&open_for_others, 250);
        assert!(pending.iter().all(|d| d.id.slot == other.slot));
        assert_eq!(pending.len(), 1_500);
        match step {
            0 => bed.reopen(),
            1 => assert!(bed.work_off() > 1),
            _ => {}
        }
    }
    assert_eq!(bed.reader().open_count(), 1_500);
    assert_eq!(bed.open().len(), 1_500);
    assert_eq!(bed.status(pair(&events[0], &endpoint)), Status::Success);
    bed.expect_whole();
}

fn discard() -> EndpointChange {
    EndpointChange {
        discard_held: true,
        ..activate(true)
    }
}

#[test]
fn discarding_ends_what_was_held_and_nothing_that_comes_after() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let held = bed.orders(5);
    bed.change(endpoint.id, activate(false));
    bed.pass_ms(1_000);
    let applied = bed.apply(vec![
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
    let discarded_at = bed.now;
    let d = bed.delivery(pair(&held[0], &endpoint));
    assert_eq!(
        (d.status, d.reason),
        (Status::Failed, Some(Reason::Discarded))
    );
    assert_eq!(d.updated_at, discarded_at);
    assert_eq!(bed.status(after), Status::Pending);
    // It doesn't end a new round of a discarded one, although the row was never written.
    let again = bed.delivery_done(Retry(pair(&held[1], &endpoint)));
    assert_eq!((again.round, again.status), (2, Status::Pending));
    bed.work_off();
    assert_eq!(bed.status(pair(&held[1], &endpoint)), Status::Pending);
    let open: Vec<_> = bed.open().iter().map(|w| w.id).collect();
    assert_eq!(open.len(), 2);
    assert!(open.contains(&after) && open.contains(&pair(&held[1], &endpoint)));
    bed.expect_whole();
}

#[test]
fn an_endpoint_that_is_active_already_has_nothing_held_to_discard() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let event = bed.order();
    bed.change(endpoint.id, discard());
    assert_eq!(bed.status(pair(&event, &endpoint)), Status::Pending);
}

#[test]
fn no_bulk_change_is_forgotten_and_one_too_many_is_refused() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push((pair(&bed.order(), &endpoint), bed.now));
        bed.change(endpoint.id, activate(false));
        bed.change(endpoint.id, discard());
        bed.pass_ms(1_000);
    }
    let after = pair(&bed.order(), &endpoint);
    bed.change(endpoint.id, activate(false));
    let op = |change| UpdateEndpoint {
        id: endpoint.id,
        change: Box::new(change),
    };
    assert_eq!(bed.refusal(op(discard())), Refusal::TooManyBulk);
    assert!(!bed.reader().endpoint(endpoint.id).unwrap().active);
    bed.change(endpoint.id, activate(true));
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(bed.refusal(asked), Refusal::TooManyBulk);
    for step in 0..3 {
        for (id, at) in &ids {
            let d = bed.delivery(*id);
            let seen = (d.status, d.reason, d.updated_at);
            let expected = (Status::Failed, Some(Reason::Discarded), *at);
            assert_eq!(seen, expected, "step {step}");
        }
        assert_eq!(bed.status(after), Status::Pending);
        match step {
            0 => bed.reopen(),
            1 => drop(bed.work_off()),
            _ => {}
        }
    }
    bed.change(endpoint.id, activate(false));
    bed.change(endpoint.id, discard());
    assert_eq!(bed.status(after), Status::Failed);
    // An endpoint can always be deleted.
    for _ in 0..63 {
        bed.change(endpoint.id, activate(false));
        bed.change(endpoint.id, discard());
    }
    bed.endpoint_done(DeleteEndpoint { id: endpoint.id });
    bed.work_off();
    bed.expect_whole();
}

#[test]
fn what_was_discarded_is_recovered_whether_it_was_written_or_not() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let other = bed.endpoint("org", &["*"]);
    bed.orders(2_500);
    bed.change(endpoint.id, activate(false));
    bed.change(endpoint.id, discard());
    // Some are written, most are not.
    assert_eq!(bed.advance(1), 1);
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(bed.recover(asked), 2_500);
    bed.work_off();
    let all = bed.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(all.len(), 2_500);
    assert!(
        all.iter()
            .all(|d| d.status == Status::Pending && d.round == 2)
    );
    let others = bed.all_deliveries(&of_endpoint(other.id), 250);
    assert!(others.iter().all(|d| d.round == 1));
    assert_eq!(bed.recoverable(endpoint.id, true), 0);
    bed.expect_whole();
}

#[test]
fn a_walk_goes_on_where_the_journal_is_folded_under_it() {
    let mut bed = Bed::with(|options| options.fold_items = 1_200);
    let endpoint = bed.endpoint("org", &["*"]);
    for _ in 0..5 {
        bed.orders(700);
    }
    bed.change(endpoint.id, activate(false));
    bed.change(endpoint.id, discard());
    let (slot, upto) = bed.reader().bulks()[0];
    let mut walk = bed.reader().bulk_walk(slot, upto).unwrap();
    let mut found = Vec::new();
    for _ in 0..100 {
        match walk.step().unwrap() {
            BulkFound::Work(work) => found.extend(work.events),
            BulkFound::Nothing => {}
            BulkFound::End => break,
        }
        // Each commit may fold, and none of these is the walk's.
        bed.orders(700);
    }
    assert!(bed.reader().generations().0 > 3);
    assert_eq!(found.len(), 3_500);
    found.dedup();
    assert_eq!(found.len(), 3_500, "each once");
}

#[test]
fn an_attempt_that_was_on_the_wire_when_its_delivery_ended_is_recorded_and_changes_nothing() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = bed.orders(3);
    bed.endpoint_done(DeleteEndpoint { id: endpoint.id });
    let next = UnixMs(bed.now.0 + 60_000);
    for (event, verdict) in events.iter().zip([
        Verdict::Success,
        Verdict::RetryAt(next),
        Verdict::Interrupted,
    ]) {
        let d = bed.settle(pair(event, &endpoint), verdict);
        assert_eq!((d.status, d.attempts.len()), (Status::Failed, 1));
        assert_eq!(d.reason, Some(Reason::EndpointDeleted));
    }
    assert_eq!(bed.open(), []);
    bed.expect_whole();
}

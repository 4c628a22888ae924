//! What touches very many deliveries: recover, delete, discard.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::query::DeliveryFilter;
use stormhook_store::{
    Change, Done, Endpoint, Event, Op, Reason, Recover, Status, Trigger, UnixMs, Verdict,
};

fn settle_all(bed: &mut Bed, events: &[Arc<Event>], endpoint: &Endpoint, verdict: Verdict) {
    let ops = events
        .iter()
        .map(|e| Op::Settle(Box::new(settle(pair(e, endpoint), verdict, bed.now))));
    bed.apply(ops.collect());
}

fn recover(bed: &mut Bed, recover: Recover) -> u64 {
    match bed.one(Op::Recover(recover)) {
        Done::Recovering(recover) => recover.count,
        other => panic!("{other:?}"),
    }
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
    let mut asked = Recover {
        since: START.plus_ms(HOUR_MS),
        until: START.plus_ms(3 * HOUR_MS),
        ..bed.recover_of(endpoint.id, false)
    };
    asked.count = bed.reader().count_recoverable(&asked).unwrap();
    assert_eq!(asked.count, 4);
    assert_eq!(recover(&mut bed, asked), 4);
    assert!(!bed.reader().jobs_wait());
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
    assert_eq!(bed.recover_of(endpoint.id, false).count, 0);
    let asked = bed.recover_of(endpoint.id, true);
    assert_eq!(recover(&mut bed, asked), 3);
    let sequences: Vec<_> = missed
        .iter()
        .map(|e| bed.delivery(pair(e, &endpoint)).sequence)
        .collect();
    assert_eq!(sequences, [3, 4, 5]);
    for event in [not_asked_for, of_another] {
        let found = bed.reader().bare_delivery(pair(&event, &endpoint)).unwrap();
        assert_eq!(found, None);
    }
    // They are not missed any more.
    assert_eq!(bed.recover_of(endpoint.id, true).count, 0);
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
    assert_eq!(asked.count, 4_000);
    recover(&mut bed, asked);
    assert!(bed.reader().jobs_wait());
    bed.reopen();
    assert!(bed.reader().jobs_wait());
    // What fails again meanwhile is not recovered once more, and what is accepted meanwhile is no part of it.
    bed.pass_ms(5);
    let again: Vec<_> = bed.open().into_iter().take(10).collect();
    let ops = again
        .iter()
        .map(|w| Op::Settle(Box::new(settle(w.id, Verdict::GiveUp, bed.now))));
    bed.apply(ops.collect());
    bed.order();
    let steps = bed.work_off();
    assert!((3..=5).contains(&steps), "{steps}");
    assert!(!bed.reader().jobs_wait());
    assert_eq!(bed.reader().open_count(), 4_000 - 10 + 1);
    for w in again {
        assert_eq!(bed.delivery(w.id).round, 2);
    }
    expect_gap_free(&bed.all_deliveries(&DeliveryFilter::default(), 250));
    bed.expect_whole();
}

/// More of an endpoint's deliveries than one step works off, all abandoned.
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
    recover(&mut bed, asked);
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
        assert_eq!(bed.recover_of(endpoint.id, false).count, 0);
        match step {
            0 => bed.reopen(),
            1 => drop(bed.work_off()),
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
    recover(&mut bed, asked);
    let ended = bed.delivery_done(Op::Cancel(cancelled));
    assert_eq!(
        (ended.status, ended.reason),
        (Status::Failed, Some(Reason::Cancelled))
    );
    let extra = bed.delivery_done(Op::Retry(retried));
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
    recover(&mut bed, asked);
    bed.change(endpoint.id, activate(false));
    bed.work_off();
    assert_eq!(bed.open().len(), 1_500);
    bed.expect_whole();
}

/// A recover of twice `each` deliveries where only so many may wait.
fn recovering(pending_limit: u64, each: usize) -> (Bed, Arc<Endpoint>) {
    let mut bed = Bed::with(|options| options.pending_limit = pending_limit);
    let endpoint = bed.endpoint("org", &["*"]);
    for _ in 0..2 {
        abandoned(&mut bed, &endpoint, each);
    }
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(asked.count, 2 * each as u64);
    recover(&mut bed, asked);
    (bed, endpoint)
}

#[test]
fn a_recover_waits_where_no_more_deliveries_may_wait() {
    let (mut bed, _) = recovering(1_200, 1_000);
    bed.work_off();
    assert_eq!(bed.open().len(), 1_200);
    assert!(bed.reader().jobs_wait());
    for waiting in bed.open() {
        bed.settle(waiting.id, Verdict::Success);
    }
    bed.work_off();
    assert!(!bed.reader().jobs_wait());
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
    recover(&mut bed, asked);
    bed.endpoint_done(Op::DeleteEndpoint { id: endpoint.id });
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
            end_covered(&mut bed, &endpoint);
        }
    }
    assert!(!bed.reader().jobs_wait());
    assert_eq!(bed.open(), []);
    bed.expect_whole();
}

#[test]
fn marks_go_when_nothing_is_left_to_be_ended() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = abandoned(&mut bed, &endpoint, 1_500);
    let held = bed.order();
    bed.change(endpoint.id, activate(false));
    let marked = bed.change(endpoint.id, discard());
    let upto = marked.ended.last().expect("a mark").stamp;
    let drop_marks = Op::DropMarks {
        slot: endpoint.slot,
        upto,
    };
    let asked = bed.recover_of(endpoint.id, false);
    recover(&mut bed, asked);
    // The recover still looks for what the mark ended.
    let answer = bed.one(Op::DropMarks {
        slot: endpoint.slot,
        upto,
    });
    assert!(matches!(answer, Done::WorkedOff { more: true }));
    bed.work_off();
    end_covered(&mut bed, &endpoint);
    let updated_at = bed.reader().endpoint(endpoint.id).unwrap().updated_at;
    bed.pass_ms(1_000);
    assert!(matches!(
        bed.one(drop_marks),
        Done::WorkedOff { more: false }
    ));
    bed.reopen();
    let after = bed.reader().endpoint(endpoint.id).unwrap();
    assert_eq!((after.ended.len(), after.updated_at), (0, updated_at));
    for event in [&held, &events[0], &events[1_499]] {
        let d = bed.delivery(pair(event, &endpoint));
        assert_eq!((d.status, d.round), (Status::Pending, 2));
    }
    bed.expect_whole();
}

/// Ends what waits as the daemon does: in small commits, from what it knows to wait.
fn end_covered(bed: &mut Bed, endpoint: &Endpoint) {
    let events: Vec<_> = bed
        .open()
        .into_iter()
        .filter(|w| w.id.slot == endpoint.slot)
        .map(|w| w.id.event)
        .collect();
    for some in events.chunks(700) {
        let op = Op::EndCovered {
            slot: endpoint.slot,
            events: some.to_vec(),
        };
        assert!(matches!(bed.one(op), Done::WorkedOff { more: false }));
    }
}

#[test]
fn deleting_an_endpoint_ends_what_waits_for_it_at_once_for_every_reader() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let other = bed.endpoint("org", &["*"]);
    let events = bed.orders(1_500);
    bed.settle(pair(&events[0], &endpoint), Verdict::Success);
    bed.pass_ms(1_000);
    let applied = bed.apply(vec![Op::DeleteEndpoint { id: endpoint.id }]);
    let told = applied.changes.iter();
    assert!(
        told.clone()
            .any(|c| matches!(c, Change::EndedUpTo(slot, _) if *slot == endpoint.slot))
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
            1 => end_covered(&mut bed, &endpoint),
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
        Op::UpdateEndpoint {
            id: endpoint.id,
            change: Box::new(discard()),
        },
        Op::Accept(event("org", "order.created")),
    ]);
    let after = match applied.done.as_slice() {
        [Done::Endpoint(_), Done::Accepted(event)] => pair(event, &endpoint),
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
    // A new round of a discarded one is above the mark, though the row was never written out.
    let again = bed.delivery_done(Op::Retry(pair(&held[1], &endpoint)));
    assert_eq!((again.round, again.status), (2, Status::Pending));
    end_covered(&mut bed, &endpoint);
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
fn marks_are_bounded_and_a_later_one_stands_for_those_it_replaced() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(pair(&bed.order(), &endpoint));
        bed.change(endpoint.id, activate(false));
        bed.change(endpoint.id, discard());
    }
    let after = pair(&bed.order(), &endpoint);
    bed.reopen();
    let marks = bed.reader().endpoint(endpoint.id).unwrap().ended.len();
    assert!(marks <= stormhook_store::endpoint::ENDED_MARKS);
    assert!(ids.iter().all(|id| bed.status(*id) == Status::Failed));
    assert_eq!(bed.status(after), Status::Pending);
}

#[test]
fn what_a_mark_ended_is_recovered_whether_it_was_written_out_or_not() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let other = bed.endpoint("org", &["*"]);
    let held = bed.orders(2_500);
    bed.change(endpoint.id, activate(false));
    bed.change(endpoint.id, discard());
    // Some are written out, most are not.
    bed.one(Op::EndCovered {
        slot: endpoint.slot,
        events: held[..400].iter().map(|e| e.id).collect(),
    });
    let asked = bed.recover_of(endpoint.id, false);
    assert_eq!(asked.count, 2_500);
    recover(&mut bed, asked);
    // The daemon goes on writing out meanwhile.
    bed.one(Op::EndCovered {
        slot: endpoint.slot,
        events: held[1_500..2_300].iter().map(|e| e.id).collect(),
    });
    bed.work_off();
    let all = bed.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(all.len(), 2_500);
    assert!(
        all.iter()
            .all(|d| d.status == Status::Pending && d.round == 2)
    );
    let others = bed.all_deliveries(&of_endpoint(other.id), 250);
    assert!(others.iter().all(|d| d.round == 1));
    assert_eq!(bed.recover_of(endpoint.id, true).count, 0);
    bed.expect_whole();
}

#[test]
fn an_attempt_that_was_on_the_wire_when_its_delivery_ended_is_recorded_and_changes_nothing() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = bed.orders(3);
    bed.endpoint_done(Op::DeleteEndpoint { id: endpoint.id });
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

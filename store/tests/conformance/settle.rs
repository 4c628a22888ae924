//! Recording attempts: each verdict from each status, and what is counted.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::delivery::{ATTEMPTS_KEPT, EXCERPTS_KEPT};
use stormhook_store::stats::Span;
use stormhook_store::{
    Cancel, Change, DeleteEndpoint, Delivery, DeliveryId, Disable, DisableWhen, Done, Endpoint, Op,
    Reason, Refusal, Retry, StatsOf, Status, Trigger, UnixMs, Verdict,
};

fn one_delivery(bed: &mut Bed) -> (DeliveryId, Arc<Endpoint>) {
    let endpoint = bed.endpoint("org", &["*"]);
    let event = bed.order();
    (pair(&event, &endpoint), endpoint)
}

/// Brings a delivery to each status that an attempt can end in.
fn in_status(bed: &mut Bed, status: Status) -> DeliveryId {
    let (id, _) = one_delivery(bed);
    let later = bed.now.plus_ms(60_000);
    match status {
        Status::Pending => {}
        Status::Retrying => drop(bed.settle(id, Verdict::RetryAt(later))),
        Status::Success => drop(bed.settle(id, Verdict::Success)),
        Status::Abandoned => drop(bed.settle(id, Verdict::GiveUp)),
        Status::Failed => drop(bed.delivery_done(Cancel(id))),
    }
    assert_eq!(bed.status(id), status);
    id
}

#[test]
fn each_verdict_leads_from_each_status_where_the_table_says() {
    let mut bed = Bed::new();
    let mut table = String::new();
    for from in Status::ALL {
        for (name, verdict) in [
            ("success", Verdict::Success),
            ("retry", Verdict::RetryAt(bed.now.plus_ms(300_000))),
            ("give up", Verdict::GiveUp),
            ("gone", Verdict::Gone),
            ("interrupted", Verdict::Interrupted),
        ] {
            let id = in_status(&mut bed, from);
            bed.pass_ms(10);
            let settled = bed.settle(id, verdict);
            assert_eq!(bed.delivery(id), settled, "what is said is what is stored");
            assert_eq!(settled.status.is_open(), settled.due.is_some());
            let reason = settled.reason.map_or("", Reason::as_str);
            let to = settled.status.as_str();
            table.push_str(&format!("{} + {name} -> {to} {reason}\n", from.as_str()));
        }
    }
    let expected = "\
        PENDING + success -> SUCCESS \n\
        PENDING + retry -> RETRYING \n\
        PENDING + give up -> ABANDONED \n\
        PENDING + gone -> FAILED gone\n\
        PENDING + interrupted -> PENDING \n\
        RETRYING + success -> SUCCESS \n\
        RETRYING + retry -> RETRYING \n\
        RETRYING + give up -> ABANDONED \n\
        RETRYING + gone -> FAILED gone\n\
        RETRYING + interrupted -> RETRYING \n\
        SUCCESS + success -> SUCCESS \n\
        SUCCESS + retry -> SUCCESS \n\
        SUCCESS + give up -> SUCCESS \n\
        SUCCESS + gone -> SUCCESS \n\
        SUCCESS + interrupted -> SUCCESS \n\
        ABANDONED + success -> ABANDONED \n\
        ABANDONED + retry -> ABANDONED \n\
        ABANDONED + give up -> ABANDONED \n\
        ABANDONED + gone -> ABANDONED \n\
        ABANDONED + interrupted -> ABANDONED \n\
        FAILED + success -> FAILED cancelled\n\
        FAILED + retry -> FAILED cancelled\n\
        FAILED + give up -> FAILED cancelled\n\
        FAILED + gone -> FAILED cancelled\n\
        FAILED + interrupted -> FAILED cancelled\n";
    assert_eq!(table, expected);
    bed.expect_whole();
}

#[test]
fn a_failed_attempt_moves_the_delivery_to_its_next_time() {
    let mut bed = Bed::new();
    let (id, _) = one_delivery(&mut bed);
    let next = bed.now.plus_ms(60_000);
    bed.pass_ms(50);
    let op = Op::Settle(Box::new(settle(id, Verdict::RetryAt(next), bed.now)));
    let applied = bed.apply(vec![op]);
    let [Change::Waiting(waiting)] = applied.changes.as_slice() else {
        panic!("{:?}", applied.changes);
    };
    assert_eq!(
        (waiting.due, waiting.retrying, waiting.fresh),
        (next, true, false)
    );
    let d = bed.delivery(id);
    assert_eq!((d.due, d.next_attempt_at), (Some(next), Some(next)));
    assert_eq!((d.attempts_finished, d.attempt_shown()), (1, 1));
    assert_eq!(d.updated_at, bed.now);
    let [attempt] = d.attempts.as_slice() else {
        panic!("{:?}", d.attempts);
    };
    assert_eq!((attempt.number, attempt.round), (1, 1));
    assert_eq!(
        attempt.response_excerpt.as_deref(),
        Some(b"down".as_slice())
    );
    assert_eq!(bed.open(), [*waiting]);
    // Six failures end it.
    for _ in 0..4 {
        bed.settle(id, Verdict::RetryAt(next));
    }
    let last = bed.settle(id, Verdict::GiveUp);
    assert_eq!(
        (last.status, last.attempts_finished),
        (Status::Abandoned, 6)
    );
    assert_eq!(bed.open(), []);
    assert_eq!(bed.reader().open_count(), 0);
}

#[test]
fn an_extra_attempt_that_fails_leaves_the_schedule_as_it_was() {
    let mut bed = Bed::new();
    let (id, _) = one_delivery(&mut bed);
    let next = bed.now.plus_ms(3_600_000);
    bed.settle(id, Verdict::RetryAt(next));
    for verdict in [Verdict::RetryAt(UnixMs(next.0 * 2)), Verdict::GiveUp] {
        bed.pass_ms(1_000);
        let asked = bed.delivery_done(Retry(id));
        assert_eq!((asked.due, asked.extra), (Some(bed.now), true));
        assert_eq!(asked.next_attempt_at, Some(next));
        assert_eq!(bed.open()[0].trigger, Trigger::Manual);
        let d = bed.settle(id, verdict);
        assert_eq!((d.status, d.due), (Status::Retrying, Some(next)));
        assert_eq!((d.attempts_finished, d.extra), (1, false));
        assert_eq!(d.next_trigger, Trigger::Schedule);
    }
    assert_eq!(bed.delivery(id).attempts.len(), 3);
    bed.delivery_done(Retry(id));
    assert_eq!(bed.settle(id, Verdict::Success).status, Status::Success);
    bed.expect_whole();
}

#[test]
fn an_interrupted_attempt_is_recorded_and_counts_nowhere() {
    let mut bed = Bed::new();
    let (id, endpoint) = one_delivery(&mut bed);
    let before = bed.delivery(id);
    bed.pass_ms(500);
    let d = bed.settle(id, Verdict::Interrupted);
    assert_eq!((d.status, d.due), (Status::Pending, before.due));
    assert_eq!((d.attempts_finished, d.attempts_total), (0, 1));
    assert_eq!(bed.reader().state(endpoint.slot).failure_count, 0);
    let stats = bed.reader().stats(
        stormhook_store::stats::Span::Hour,
        bed.now,
        &stormhook_store::StatsOf::All,
    );
    let counters = stats.unwrap().counters;
    assert_eq!((counters.success, counters.failure), (0, 0));
    // The following attempt is still the first of its schedule, and the second of all.
    let d = bed.settle(id, Verdict::Success);
    assert_eq!(d.attempts.last().map(|a| a.number), Some(2));
    let stats = bed.reader().stats(
        stormhook_store::stats::Span::Hour,
        bed.now,
        &stormhook_store::StatsOf::All,
    );
    assert_eq!(stats.unwrap().counters.first_successes, 1);
    // An extra attempt that was interrupted is still owed.
    let (id, _) = one_delivery(&mut bed);
    bed.delivery_done(Retry(id));
    assert!(bed.settle(id, Verdict::Interrupted).extra);
}

#[test]
fn failures_are_counted_in_a_row_until_a_success_or_an_activation() {
    let mut bed = Bed::new();
    let (id, endpoint) = one_delivery(&mut bed);
    let since = bed.now;
    for n in 1..=3 {
        let next = bed.now.plus_ms(1);
        bed.settle(id, Verdict::RetryAt(next));
        bed.pass_ms(1_000);
        let state = bed.reader().state(endpoint.slot);
        assert_eq!((state.failure_count, state.failing_since), (n, Some(since)));
        bed.reopen();
        assert_eq!(bed.reader().state(endpoint.slot), state);
    }
    bed.settle(id, Verdict::Success);
    let state = bed.reader().state(endpoint.slot);
    assert_eq!((state.failure_count, state.failing_since), (0, None));
    assert_eq!(state.last_success_at, Some(bed.now));
    let event = bed.order();
    bed.settle(pair(&event, &endpoint), Verdict::Gone);
    assert_eq!(bed.reader().state(endpoint.slot).failure_count, 1);
    bed.change(endpoint.id, activate(false));
    assert_eq!(bed.reader().state(endpoint.slot).failure_count, 1);
    bed.change(endpoint.id, activate(true));
    let state = bed.reader().state(endpoint.slot);
    assert_eq!((state.failure_count, state.failing_since), (0, None));
    assert_eq!(state.last_sequence, 2);
}

#[test]
fn an_endpoint_that_is_switched_off_says_so_to_whoever_named_the_event() {
    let mut bed = Bed::new();
    let (id, endpoint) = one_delivery(&mut bed);
    let names_it = bed.endpoint("org", &["stormhook.endpoint.disabled"]);
    bed.endpoint("org", &["*"]);
    let disable = |id: DeliveryId, now| {
        let mut s = settle(id, Verdict::Gone, now);
        s.disable = Some(Disable {
            when: DisableWhen::Now,
            reason: "gone".to_owned(),
            notice: event("org", "stormhook.endpoint.disabled"),
        });
        Op::Settle(Box::new(s))
    };
    let op = disable(id, bed.now);
    assert!(matches!(bed.one(op), Done::Settle(Ok(_))));
    let off = bed.reader().endpoint(endpoint.id).expect("it is there");
    assert!(!off.active);
    assert_eq!(off.disabled_reason.as_deref(), Some("gone"));
    let told: Vec<_> = bed.open().iter().map(|w| w.id.slot).collect();
    assert_eq!(told, [names_it.slot]);
    // It is disabled already: nothing is reported twice.
    let op = disable(id, bed.now);
    bed.one(op);
    assert_eq!(bed.open().len(), 1);
    let on = bed.change(endpoint.id, activate(true));
    assert_eq!(on.disabled_reason, None);
}

/// Records outcomes of several attempts in one commit, with the rule of six consecutive failures, however fast.
fn in_one_commit(bed: &mut Bed, outcomes: &[(DeliveryId, Verdict)]) {
    let ops = outcomes.iter().map(|(id, verdict)| {
        let mut s = settle(*id, *verdict, bed.now);
        s.disable = (*verdict != Verdict::Success).then(|| Disable {
            when: DisableWhen::RunOf {
                failures: 6,
                lasting_ms: 0,
            },
            reason: "failing".to_owned(),
            notice: event("org", "stormhook.endpoint.disabled"),
        });
        Op::Settle(Box::new(s))
    });
    let ops = ops.collect();
    bed.apply(ops);
}

#[test]
fn a_run_of_failures_is_judged_as_it_is_recorded() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let ids: Vec<_> = bed.orders(20).iter().map(|e| pair(e, &endpoint)).collect();
    let failed = Verdict::RetryAt(bed.now.plus_ms(60_000));
    // Five failures, and a success and a sixth failure that ended at the same time: whatever the sixth saw, it is the
    // first of a new run.
    let five: Vec<_> = ids[..5].iter().map(|id| (*id, failed)).collect();
    in_one_commit(&mut bed, &five);
    in_one_commit(&mut bed, &[(ids[5], Verdict::Success), (ids[6], failed)]);
    let now = bed.reader().endpoint(endpoint.id).unwrap();
    assert!(now.active);
    // The rest of the run in one commit.
    let rest: Vec<_> = ids[7..12].iter().map(|id| (*id, failed)).collect();
    in_one_commit(&mut bed, &rest);
    let now = bed.reader().endpoint(endpoint.id).unwrap();
    assert_eq!(
        (now.active, now.disabled_reason.as_deref()),
        (false, Some("failing"))
    );
    assert_eq!(bed.reader().state(endpoint.slot).failure_count, 6);
}

#[test]
fn that_an_endpoint_was_switched_off_is_said_however_much_waits() {
    let mut bed = Bed::with(|options| options.pending_limit = 2);
    let (id, _) = one_delivery(&mut bed);
    let names_it = bed.endpoint("org", &["stormhook.*"]);
    let mut s = settle(id, Verdict::RetryAt(bed.now.plus_ms(60_000)), bed.now);
    let other = bed.endpoint("org", &["stormhook.endpoint.disabled"]);
    s.disable = Some(Disable {
        when: DisableWhen::Now,
        reason: "gone".to_owned(),
        notice: event("org", "stormhook.endpoint.disabled"),
    });
    bed.one(Op::Settle(Box::new(s)));
    let mut told: Vec<_> = bed.open().iter().map(|w| w.id.slot).collect();
    told.sort_unstable();
    assert_eq!(told[1..], [names_it.slot, other.slot]);
}

#[test]
fn an_attempt_that_was_out_when_its_delivery_ended_is_one_of_its_round() {
    let mut bed = Bed::new();
    let (id, endpoint) = one_delivery(&mut bed);
    bed.endpoint_done(DeleteEndpoint { id: endpoint.id });
    let d = bed.settle(id, Verdict::Success);
    assert_eq!((d.status, d.attempt_shown()), (Status::Failed, 1));
}

#[test]
fn the_first_attempt_is_the_first_whoever_asked_for_it() {
    let mut bed = Bed::new();
    let (id, _) = one_delivery(&mut bed);
    bed.settle(id, Verdict::Interrupted);
    bed.delivery_done(Retry(id));
    bed.settle(id, Verdict::RetryAt(bed.now));
    bed.settle(id, Verdict::Success);
    let all = bed
        .reader()
        .stats(Span::All, bed.now, &StatsOf::All)
        .unwrap();
    let counted = (all.counters.first_attempts, all.counters.first_successes);
    assert_eq!(counted, (1, 0));
}

#[test]
fn only_the_newest_attempts_are_kept_and_all_are_counted() {
    let mut bed = Bed::new();
    let (id, _) = one_delivery(&mut bed);
    let many = u32::try_from(ATTEMPTS_KEPT).unwrap() + 6;
    let ops = (0..many).map(|n| {
        let next = bed.now.plus_ms(u64::from(n));
        Op::Settle(Box::new(settle(id, Verdict::RetryAt(next), bed.now)))
    });
    bed.apply(ops.collect());
    let d: Delivery = bed.delivery(id);
    assert_eq!((d.attempts.len(), d.attempts_total), (ATTEMPTS_KEPT, many));
    assert_eq!(d.attempts[0].number, 7);
    assert_eq!(d.attempts.last().map(|a| a.number), Some(many));
    let excerpts = d.attempts.iter().filter(|a| a.response_excerpt.is_some());
    assert_eq!(excerpts.count(), EXCERPTS_KEPT);
    assert_eq!(bed.open().len(), 1);
}

#[test]
fn what_does_not_exist_is_not_found() {
    let mut bed = Bed::new();
    let (id, _) = one_delivery(&mut bed);
    let elsewhere = pair_of(id.event, stormhook_store::Slot(99));
    let op = Box::new(settle(elsewhere, Verdict::Success, bed.now));
    assert_eq!(bed.refusal(op), Refusal::NotFound);
    assert_eq!(bed.refusal(Cancel(elsewhere)), Refusal::NotFound);
    assert_eq!(bed.refusal(Retry(elsewhere)), Refusal::NotFound);
}

#[test]
fn an_attempt_that_ended_before_its_event_by_a_clock_that_went_back_leaves_no_stray_row() {
    let mut bed = Bed::new();
    let (id, endpoint) = one_delivery(&mut bed);
    bed.now = UnixMs(START.0 - DAY_MS);
    let early = bed.now.plus_ms(60_000);
    let d = bed.settle(id, Verdict::RetryAt(early));
    assert_eq!(bed.delivery(id), d);
    bed.expect_whole();
    assert_eq!(bed.settle(id, Verdict::GiveUp).status, Status::Abandoned);
    assert_eq!(bed.open(), []);
    bed.expect_whole();
    let recover = bed.recover_of(endpoint.id, false);
    assert_eq!(bed.recover(recover), 1);
    bed.work_off();
    assert_eq!(bed.open().len(), 1);
    bed.expect_whole();
}

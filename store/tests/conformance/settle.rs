//! Recording attempts: each verdict from each status, and what is counted.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::delivery::{ATTEMPTS_KEPT, EXCERPTS_KEPT};
use stormhook_store::stats::Span;
use stormhook_store::{
    Cancel, Change, DeleteEndpoint, Delivery, DeliveryId, Disable, DisableWhen, Done, Endpoint,
    NextStep, Op, Reason, Refusal, Retry, StatsOf, Status, Trigger, UnixMs,
};

fn one_delivery(fixture: &mut Fixture) -> (DeliveryId, Arc<Endpoint>) {
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    (pair(&event, &endpoint), endpoint)
}

/// Brings a delivery to each status that an attempt can end in.
fn in_status(fixture: &mut Fixture, status: Status) -> DeliveryId {
    let (id, _) = one_delivery(fixture);
    let later = fixture.now.plus_ms(60_000);
    match status {
        Status::Pending => {}
        Status::Retrying => drop(fixture.settle(id, NextStep::RetryAt(later))),
        Status::Success => drop(fixture.settle(id, NextStep::Success)),
        Status::Abandoned => drop(fixture.settle(id, NextStep::GiveUp)),
        Status::Failed => drop(fixture.delivery_done(Cancel(id))),
    }
    assert_eq!(fixture.status(id), status);
    id
}

#[test]
fn each_verdict_leads_from_each_status_where_the_table_says() {
    let mut fixture = Fixture::new();
    let mut table = String::new();
    for from in Status::ALL {
        for (name, verdict) in [
            ("success", NextStep::Success),
            ("retry", NextStep::RetryAt(fixture.now.plus_ms(300_000))),
            ("give up", NextStep::GiveUp),
            ("gone", NextStep::Gone),
            ("interrupted", NextStep::Interrupted),
        ] {
            let id = in_status(&mut fixture, from);
            fixture.pass_ms(10);
            let settled = fixture.settle(id, verdict);
            assert_eq!(
                fixture.delivery(id),
                settled,
                "what is said is what is stored"
            );
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
    fixture.expect_whole();
}

#[test]
fn a_failed_attempt_moves_the_delivery_to_its_next_time() {
    let mut fixture = Fixture::new();
    let (id, _) = one_delivery(&mut fixture);
    let next = fixture.now.plus_ms(60_000);
    fixture.pass_ms(50);
    let op = Op::Settle(Box::new(settle(id, NextStep::RetryAt(next), fixture.now)));
    let applied = fixture.apply(vec![op]);
    let [Change::Waiting(waiting)] = applied.changes.as_slice() else {
        panic!("{:?}", applied.changes);
    };
    assert_eq!(
        (waiting.due, waiting.retrying, waiting.fresh),
        (next, true, false)
    );
    let d = fixture.delivery(id);
    assert_eq!((d.due, d.next_attempt_at), (Some(next), Some(next)));
    assert_eq!((d.attempts_finished, d.attempt_shown()), (1, 1));
    assert_eq!(d.updated_at, fixture.now);
    let [attempt] = d.attempts.as_slice() else {
        panic!("{:?}", d.attempts);
    };
    assert_eq!((attempt.number, attempt.round), (1, 1));
    assert_eq!(
        attempt.response_excerpt.as_deref(),
        Some(b"down".as_slice())
    );
    assert_eq!(fixture.open(), [*waiting]);
    // Six failures end it.
    for _ in 0..4 {
        fixture.settle(id, NextStep::RetryAt(next));
    }
    let last = fixture.settle(id, NextStep::GiveUp);
    assert_eq!(
        (last.status, last.attempts_finished),
        (Status::Abandoned, 6)
    );
    assert_eq!(fixture.open(), []);
    assert_eq!(fixture.reader().open_count(), 0);
}

#[test]
fn an_extra_attempt_that_fails_leaves_the_schedule_as_it_was() {
    let mut fixture = Fixture::new();
    let (id, _) = one_delivery(&mut fixture);
    let next = fixture.now.plus_ms(3_600_000);
    fixture.settle(id, NextStep::RetryAt(next));
    for verdict in [NextStep::RetryAt(UnixMs(next.0 * 2)), NextStep::GiveUp] {
        fixture.pass_ms(1_000);
        let asked = fixture.delivery_done(Retry(id));
        assert_eq!((asked.due, asked.extra), (Some(fixture.now), true));
        assert_eq!(asked.next_attempt_at, Some(next));
        assert_eq!(fixture.open()[0].trigger, Trigger::Manual);
        let d = fixture.settle(id, verdict);
        assert_eq!((d.status, d.due), (Status::Retrying, Some(next)));
        assert_eq!((d.attempts_finished, d.extra), (1, false));
        assert_eq!(d.next_trigger, Trigger::Schedule);
    }
    assert_eq!(fixture.delivery(id).attempts.len(), 3);
    fixture.delivery_done(Retry(id));
    assert_eq!(
        fixture.settle(id, NextStep::Success).status,
        Status::Success
    );
    fixture.expect_whole();
}

#[test]
fn an_interrupted_attempt_is_recorded_and_counts_nowhere() {
    let mut fixture = Fixture::new();
    let (id, endpoint) = one_delivery(&mut fixture);
    let before = fixture.delivery(id);
    fixture.pass_ms(500);
    let d = fixture.settle(id, NextStep::Interrupted);
    assert_eq!((d.status, d.due), (Status::Pending, before.due));
    assert_eq!((d.attempts_finished, d.attempts_total), (0, 1));
    assert_eq!(fixture.reader().state(endpoint.slot).failure_count, 0);
    let stats = fixture.reader().stats(
        stormhook_store::stats::Span::Hour,
        fixture.now,
        &stormhook_store::StatsOf::All,
    );
    let counters = stats.unwrap().counters;
    assert_eq!((counters.success, counters.failure), (0, 0));
    // The following attempt is still the first of its schedule, and the second of all.
    let d = fixture.settle(id, NextStep::Success);
    assert_eq!(d.attempts.last().map(|a| a.number), Some(2));
    let stats = fixture.reader().stats(
        stormhook_store::stats::Span::Hour,
        fixture.now,
        &stormhook_store::StatsOf::All,
    );
    assert_eq!(stats.unwrap().counters.first_successes, 1);
    // An extra attempt that was interrupted is still owed.
    let (id, _) = one_delivery(&mut fixture);
    fixture.delivery_done(Retry(id));
    assert!(fixture.settle(id, NextStep::Interrupted).extra);
}

#[test]
fn failures_are_counted_in_a_row_until_a_success_or_an_activation() {
    let mut fixture = Fixture::new();
    let (id, endpoint) = one_delivery(&mut fixture);
    let since = fixture.now;
    for n in 1..=3 {
        let next = fixture.now.plus_ms(1);
        fixture.settle(id, NextStep::RetryAt(next));
        fixture.pass_ms(1_000);
        let state = fixture.reader().state(endpoint.slot);
        assert_eq!((state.failure_count, state.failing_since), (n, Some(since)));
        fixture.reopen();
        assert_eq!(fixture.reader().state(endpoint.slot), state);
    }
    fixture.settle(id, NextStep::Success);
    let state = fixture.reader().state(endpoint.slot);
    assert_eq!((state.failure_count, state.failing_since), (0, None));
    assert_eq!(state.last_success_at, Some(fixture.now));
    let event = fixture.order();
    fixture.settle(pair(&event, &endpoint), NextStep::Gone);
    assert_eq!(fixture.reader().state(endpoint.slot).failure_count, 1);
    fixture.change(endpoint.id, activate(false));
    assert_eq!(fixture.reader().state(endpoint.slot).failure_count, 1);
    fixture.change(endpoint.id, activate(true));
    let state = fixture.reader().state(endpoint.slot);
    assert_eq!((state.failure_count, state.failing_since), (0, None));
    assert_eq!(state.last_sequence, 2);
}

#[test]
fn a_disabled_endpoint_is_reported_to_subscribers_of_the_event() {
    let mut fixture = Fixture::new();
    let (id, endpoint) = one_delivery(&mut fixture);
    let names_it = fixture.endpoint("org", &["stormhook.endpoint.disabled"]);
    fixture.endpoint("org", &["*"]);
    let disable = |id: DeliveryId, now| {
        let mut s = settle(id, NextStep::Gone, now);
        s.disable = Some(Disable {
            when: DisableWhen::Now,
            reason: "gone".to_owned(),
            notice: event("org", "stormhook.endpoint.disabled"),
        });
        Op::Settle(Box::new(s))
    };
    let op = disable(id, fixture.now);
    assert!(matches!(fixture.one(op), Done::Settle(Ok(_))));
    let off = fixture.reader().endpoint(endpoint.id).expect("it is there");
    assert!(!off.active);
    assert_eq!(off.disabled_reason.as_deref(), Some("gone"));
    let told: Vec<_> = fixture.open().iter().map(|w| w.id.slot).collect();
    assert_eq!(told, [names_it.slot]);
    // It is disabled already: nothing is reported twice.
    let op = disable(id, fixture.now);
    fixture.one(op);
    assert_eq!(fixture.open().len(), 1);
    let on = fixture.change(endpoint.id, activate(true));
    assert_eq!(on.disabled_reason, None);
}

/// Records outcomes of several attempts in one commit, with the rule of six consecutive failures, however fast.
fn in_one_commit(fixture: &mut Fixture, outcomes: &[(DeliveryId, NextStep)]) {
    let ops = outcomes.iter().map(|(id, verdict)| {
        let mut s = settle(*id, *verdict, fixture.now);
        s.disable = (*verdict != NextStep::Success).then(|| Disable {
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
    fixture.apply(ops);
}

#[test]
fn a_run_of_failures_is_judged_as_it_is_recorded() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let ids: Vec<_> = fixture
        .orders(20)
        .iter()
        .map(|e| pair(e, &endpoint))
        .collect();
    let failed = NextStep::RetryAt(fixture.now.plus_ms(60_000));
    // Five failures, and a success and a sixth failure that ended at the same time: whatever the sixth saw, it is the
    // first of a new run.
    let five: Vec<_> = ids[..5].iter().map(|id| (*id, failed)).collect();
    in_one_commit(&mut fixture, &five);
    in_one_commit(
        &mut fixture,
        &[(ids[5], NextStep::Success), (ids[6], failed)],
    );
    let now = fixture.reader().endpoint(endpoint.id).unwrap();
    assert!(now.active);
    // The rest of the run in one commit.
    let rest: Vec<_> = ids[7..12].iter().map(|id| (*id, failed)).collect();
    in_one_commit(&mut fixture, &rest);
    let now = fixture.reader().endpoint(endpoint.id).unwrap();
    assert_eq!(
        (now.active, now.disabled_reason.as_deref()),
        (false, Some("failing"))
    );
    assert_eq!(fixture.reader().state(endpoint.slot).failure_count, 6);
}

#[test]
fn a_disabled_endpoint_is_reported_at_any_number_of_open_deliveries() {
    let mut fixture = Fixture::with(|options| options.pending_limit = 2);
    let (id, _) = one_delivery(&mut fixture);
    let names_it = fixture.endpoint("org", &["stormhook.*"]);
    let mut s = settle(
        id,
        NextStep::RetryAt(fixture.now.plus_ms(60_000)),
        fixture.now,
    );
    let other = fixture.endpoint("org", &["stormhook.endpoint.disabled"]);
    s.disable = Some(Disable {
        when: DisableWhen::Now,
        reason: "gone".to_owned(),
        notice: event("org", "stormhook.endpoint.disabled"),
    });
    fixture.one(Op::Settle(Box::new(s)));
    let mut told: Vec<_> = fixture.open().iter().map(|w| w.id.slot).collect();
    told.sort_unstable();
    assert_eq!(told[1..], [names_it.slot, other.slot]);
}

#[test]
fn an_attempt_that_was_out_when_its_delivery_ended_is_one_of_its_round() {
    let mut fixture = Fixture::new();
    let (id, endpoint) = one_delivery(&mut fixture);
    fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    let d = fixture.settle(id, NextStep::Success);
    assert_eq!((d.status, d.attempt_shown()), (Status::Failed, 1));
}

#[test]
fn the_first_attempt_is_the_first_whoever_asked_for_it() {
    let mut fixture = Fixture::new();
    let (id, _) = one_delivery(&mut fixture);
    fixture.settle(id, NextStep::Interrupted);
    fixture.delivery_done(Retry(id));
    fixture.settle(id, NextStep::RetryAt(fixture.now));
    fixture.settle(id, NextStep::Success);
    let all = fixture
        .reader()
        .stats(Span::All, fixture.now, &StatsOf::All)
        .unwrap();
    let counted = (all.counters.first_attempts, all.counters.first_successes);
    assert_eq!(counted, (1, 0));
}

#[test]
fn only_the_newest_attempts_are_kept_and_all_are_counted() {
    let mut fixture = Fixture::new();
    let (id, _) = one_delivery(&mut fixture);
    let many = u32::try_from(ATTEMPTS_KEPT).unwrap() + 6;
    let ops = (0..many).map(|n| {
        let next = fixture.now.plus_ms(u64::from(n));
        Op::Settle(Box::new(settle(id, NextStep::RetryAt(next), fixture.now)))
    });
    fixture.apply(ops.collect());
    let d: Delivery = fixture.delivery(id);
    assert_eq!((d.attempts.len(), d.attempts_total), (ATTEMPTS_KEPT, many));
    assert_eq!(d.attempts[0].number, 7);
    assert_eq!(d.attempts.last().map(|a| a.number), Some(many));
    let excerpts = d.attempts.iter().filter(|a| a.response_excerpt.is_some());
    assert_eq!(excerpts.count(), EXCERPTS_KEPT);
    assert_eq!(fixture.open().len(), 1);
}

#[test]
fn what_does_not_exist_is_not_found() {
    let mut fixture = Fixture::new();
    let (id, _) = one_delivery(&mut fixture);
    let elsewhere = pair_of(id.event, stormhook_store::Slot(99));
    let op = Box::new(settle(elsewhere, NextStep::Success, fixture.now));
    assert_eq!(fixture.refusal(op), Refusal::NotFound);
    assert_eq!(fixture.refusal(Cancel(elsewhere)), Refusal::NotFound);
    assert_eq!(fixture.refusal(Retry(elsewhere)), Refusal::NotFound);
}

#[test]
fn an_attempt_that_ended_before_its_event_by_a_clock_that_went_back_leaves_no_stray_row() {
    let mut fixture = Fixture::new();
    let (id, endpoint) = one_delivery(&mut fixture);
    fixture.now = UnixMs(START.0 - DAY_MS);
    let early = fixture.now.plus_ms(60_000);
    let d = fixture.settle(id, NextStep::RetryAt(early));
    assert_eq!(fixture.delivery(id), d);
    fixture.expect_whole();
    assert_eq!(
        fixture.settle(id, NextStep::GiveUp).status,
        Status::Abandoned
    );
    assert_eq!(fixture.open(), []);
    fixture.expect_whole();
    let recover = fixture.recover_of(endpoint.id, false);
    assert_eq!(fixture.recover(recover), 1);
    fixture.work_off();
    assert_eq!(fixture.open().len(), 1);
    fixture.expect_whole();
}

//! Operators' changes to one delivery: retry, cancel, replay.

use crate::support::*;
use stormhook_store::{
    Cancel, Change, DeleteEndpoint, NextStep, Op, Reason, Refusal, Replay, Retry, Status, Trigger,
    UnixMs,
};

#[test]
fn a_retry_of_an_ended_delivery_is_a_new_round_of_the_whole_schedule() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    for verdict in [NextStep::Success, NextStep::GiveUp, NextStep::Gone] {
        let event = fixture.order();
        let id = pair(&event, &endpoint);
        let ended = fixture.settle(id, verdict);
        fixture.pass_ms(5_000);
        let d = fixture.delivery_done(Retry(id));
        assert_eq!(
            (d.status, d.round, d.attempts_finished),
            (Status::Pending, 2, 0)
        );
        assert_eq!((d.reason, d.due), (None, Some(fixture.now)));
        assert_eq!(
            (d.sequence, d.created_at),
            (ended.sequence, ended.created_at)
        );
        let [waiting] = fixture.open()[..] else {
            panic!("one waits")
        };
        assert!(waiting.later_round && !waiting.retrying && !waiting.fresh);
        assert_eq!(waiting.trigger, Trigger::Manual);
        let d = fixture.settle(id, NextStep::Success);
        let rounds: Vec<_> = d.attempts.iter().map(|a| (a.number, a.round)).collect();
        assert_eq!(rounds, [(1, 1), (2, 2)]);
        assert_eq!(d.reason, None);
    }
    fixture.expect_whole();
}

#[test]
fn a_cancelled_delivery_ends_and_can_be_opened_again() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let id = pair(&event, &endpoint);
    let applied = fixture.apply(vec![Op::Cancel(Cancel(id))]);
    assert!(matches!(applied.changes.as_slice(), [Change::Ended(ended)] if *ended == id));
    let d = fixture.delivery(id);
    assert_eq!(
        (d.status, d.reason),
        (Status::Failed, Some(Reason::Cancelled))
    );
    assert_eq!(fixture.refusal(Cancel(id)), Refusal::DeliveryEnded);
    assert_eq!(fixture.reader().open_count(), 0);
    assert_eq!(fixture.delivery_done(Retry(id)).round, 2);
    assert_eq!(fixture.reader().open_count(), 1);
}

#[test]
fn nothing_is_retried_or_replayed_to_an_inactive_endpoint() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let id = pair(&event, &endpoint);
    fixture.change(endpoint.id, activate(false));
    let replay = || Replay {
        event: event.id,
        endpoint: endpoint.id,
    };
    assert_eq!(fixture.refusal(Retry(id)), Refusal::EndpointInactive);
    assert_eq!(fixture.refusal(replay()), Refusal::EndpointInactive);
    let recover = fixture.recover_of(endpoint.id, true);
    assert_eq!(fixture.refusal(recover.clone()), Refusal::EndpointInactive);
    // It is held, and may still be cancelled.
    assert_eq!(fixture.status(id), Status::Pending);
    fixture.delivery_done(Cancel(id));
    fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    assert_eq!(fixture.refusal(Retry(id)), Refusal::EndpointInactive);
    assert_eq!(fixture.refusal(replay()), Refusal::NotFound);
    assert_eq!(fixture.refusal(recover), Refusal::NotFound);
}

#[test]
fn a_replay_is_a_new_round_or_the_first_delivery() {
    let mut fixture = Fixture::new();
    let early = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let late = fixture.endpoint("org", &["other.type"]);
    let elsewhere = fixture.endpoint("org2", &["*"]);
    let replay = |endpoint| Replay {
        event: event.id,
        endpoint,
    };
    fixture.pass_ms(10_000);
    let first = fixture.delivery_done(replay(late.id));
    assert_eq!((first.round, first.sequence), (1, 1));
    assert_eq!(first.next_trigger, Trigger::Replay);
    assert_eq!(first.created_at, fixture.now);
    fixture.settle(pair(&event, &early), NextStep::Success);
    let again = fixture.delivery_done(replay(early.id));
    assert_eq!((again.round, again.sequence), (2, 1));
    // An open one too.
    assert_eq!(fixture.delivery_done(replay(early.id)).round, 3);
    assert_eq!(fixture.open().len(), 2);
    assert_eq!(fixture.refusal(replay(elsewhere.id)), Refusal::NotFound);
    let nothing = Replay {
        event: stormhook_store::EventId(1),
        endpoint: early.id,
    };
    assert_eq!(fixture.refusal(nothing), Refusal::NotFound);
    assert_eq!(
        fixture
            .accept(crate::support::event("org", "other.type"))
            .deliveries,
        2
    );
    assert_eq!(fixture.reader().state(late.slot).last_sequence, 2);
    fixture.expect_whole();
}

#[test]
fn what_waits_after_reopening_is_what_waited_before() {
    let mut fixture = Fixture::new();
    let a = fixture.endpoint("org", &["*"]);
    let b = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(20);
    for (n, event) in events.iter().enumerate() {
        fixture.pass_ms(7);
        let next = fixture.now.plus_ms(10_000);
        match n % 5 {
            0 => drop(fixture.settle(pair(event, &a), NextStep::RetryAt(next))),
            1 => drop(fixture.settle(pair(event, &a), NextStep::Success)),
            2 => drop(fixture.delivery_done(Retry(pair(event, &b)))),
            3 => {
                fixture.settle(pair(event, &b), NextStep::GiveUp);
                fixture.delivery_done(Retry(pair(event, &b)));
            }
            _ => {}
        }
    }
    let open = fixture.open();
    assert_eq!(open.len(), 36);
    assert!(open.is_sorted_by_key(|w| (w.due, w.id)), "due first first");
    assert_eq!(fixture.reader().open_count(), 36);
    fixture.reopen();
    assert_eq!(fixture.open(), open);
    assert_eq!(fixture.reader().open_count(), 36);
    let fresh = open.iter().filter(|w| w.fresh).count();
    assert_eq!(fresh, 24);
    fixture.expect_whole();
}

#[test]
fn announced_changes_match_a_fresh_read_of_everything() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let mut known = std::collections::BTreeMap::new();
    let mut follow = |changes: Vec<Change>| {
        for change in changes {
            match change {
                Change::Waiting(waiting) => drop(known.insert(waiting.id, waiting)),
                Change::Ended(id) => drop(known.remove(&id)),
                Change::Endpoint(_)
                | Change::Bulk(..)
                | Change::Purge(_)
                | Change::Gained(_)
                | Change::Lost(_) => {}
            }
        }
        let mut open: Vec<_> = known.values().copied().collect();
        open.sort_by_key(|w| (w.due, w.id));
        open
    };
    let accept = || Op::Accept(event("org", "a.b"));
    let applied = fixture.apply((0..6).map(|_| accept()).collect());
    let ids: Vec<_> = applied
        .done
        .into_iter()
        .map(|done| pair(&accepted(done), &endpoint))
        .collect();
    assert_eq!(follow(applied.changes), fixture.open());
    let at = |ms: u64| UnixMs(START.0 + ms);
    // The same delivery may change several times in a batch.
    let ops = vec![
        Op::Settle(Box::new(settle(ids[0], NextStep::RetryAt(at(500)), at(1)))),
        Op::Retry(Retry(ids[0])),
        Op::Settle(Box::new(settle(ids[0], NextStep::GiveUp, at(2)))),
        Op::Settle(Box::new(settle(ids[1], NextStep::Success, at(2)))),
        Op::Retry(Retry(ids[1])),
        Op::Cancel(Cancel(ids[2])),
        Op::Settle(Box::new(settle(ids[3], NextStep::Interrupted, at(2)))),
        accept(),
    ];
    let applied = fixture.apply(ops);
    assert_eq!(follow(applied.changes), fixture.open());
    fixture.expect_whole();
}

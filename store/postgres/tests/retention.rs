//! History is dropped by whole days, and what an open delivery needs stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]
#![allow(dead_code, reason = "the tests of faults use more of the fixture")]

mod proxy;
mod support;

use stormhook_store::{DeleteEndpoint, Horizon, NextStep, Refusal, Replay, Retry, UnixMs};
use support::*;

/// Everything accepted before this is past its retention.
fn all_before(at: UnixMs) -> Horizon {
    Horizon {
        events_before: at,
        attempts_before: at,
        ..Horizon::default()
    }
}

#[test]
fn a_day_past_its_retention_is_dropped_and_the_days_after_it_stay() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let mut events = Vec::new();
    for _ in 0..3 {
        let made = fixture.order();
        fixture.settle(pair(&made, &endpoint), NextStep::Success);
        events.push(made);
        fixture.now = fixture.now.plus_ms(DAY_MS);
    }
    assert_eq!(fixture.partitions("events").len(), 3);
    // The middle of the second day: only the first is past it as a whole.
    fixture.sweep(all_before(START.plus_ms(DAY_MS)));
    assert_eq!(fixture.partitions("events").len(), 2);
    assert_eq!(fixture.partitions("done").len(), 2);
    let there = |event| fixture.reader().event(event).unwrap().is_some();
    let kept: Vec<bool> = events.iter().map(|e| there(e.id)).collect();
    assert_eq!(kept, [false, true, true]);
    let found = |event| fixture.reader().bare_delivery(pair(event, &endpoint));
    let kept: Vec<bool> = events.iter().map(|e| found(e).unwrap().is_some()).collect();
    assert_eq!(kept, [false, true, true]);
    fixture.expect_whole();
    // Sequence numbers go on.
    let next = fixture.order();
    assert_eq!(fixture.delivery(pair(&next, &endpoint)).sequence, 4);
}

#[test]
fn what_an_open_delivery_needs_outlives_its_day() {
    let mut fixture = Fixture::new();
    let ended = fixture.endpoint("org", &["*"]);
    let held = fixture.endpoint("org", &["*"]);
    let (made, other) = (fixture.order(), fixture.order());
    for event in [&made, &other] {
        fixture.settle(pair(event, &ended), NextStep::Success);
    }
    fixture.settle(pair(&other, &held), NextStep::Success);
    fixture.now = fixture.now.plus_ms(5 * DAY_MS);
    fixture.sweep(all_before(fixture.now));
    // A second pass finds nothing more to drop.
    fixture.sweep(all_before(fixture.now));
    fixture.reopen();
    let kept = fixture.reader().event(made.id).unwrap().unwrap();
    assert_eq!(kept.data, made.data);
    assert!(fixture.reader().event(other.id).unwrap().is_none());
    assert_eq!(fixture.reader().open_count(), 1);
    fixture.expect_whole();
    let delivered = fixture.settle(pair(&made, &held), NextStep::Success);
    assert_eq!(delivered.attempts.len(), 1);
    fixture.expect_whole();
}

#[test]
fn nothing_past_its_retention_is_opened_again() {
    let mut fixture = Fixture::new();
    let old = fixture.endpoint("org", &["*"]);
    let new = fixture.endpoint("org", &["none"]);
    let made = fixture.order();
    fixture.settle(pair(&made, &old), NextStep::GiveUp);
    // The horizon is in the middle of the event's day, so its partition is still there.
    fixture.now = fixture.now.plus_ms(60_000);
    fixture.sweep(all_before(fixture.now));
    assert_eq!(fixture.partitions("done").len(), 1);
    assert_eq!(fixture.refusal(Retry(pair(&made, &old))), Refusal::NotFound);
    let replay = Replay {
        event: made.id,
        endpoint: new.id,
    };
    assert_eq!(fixture.refusal(replay), Refusal::DataGone);
}

#[test]
fn events_lose_their_data_before_their_deliveries_go() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    fixture.settle(pair(&made, &endpoint), NextStep::Success);
    fixture.now = fixture.now.plus_ms(5 * DAY_MS);
    fixture.sweep(Horizon {
        events_before: fixture.now,
        attempts_before: UnixMs(0),
        ..Horizon::default()
    });
    fixture.reopen();
    assert_eq!(fixture.reader().event(made.id).unwrap().unwrap().data, None);
    let delivery = fixture.delivery(pair(&made, &endpoint));
    assert_eq!(delivery.attempts.len(), 1);
    fixture.expect_whole();
}

#[test]
fn a_deleted_endpoint_goes_with_its_last_delivery() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    fixture.settle(pair(&made, &endpoint), NextStep::Success);
    let deleted = fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    fixture.work_off();
    let known = |fixture: &Fixture| fixture.reader().endpoint_or_mark(deleted.id).is_some();
    fixture.now = fixture.now.plus_ms(60_000);
    fixture.sweep(all_before(fixture.now));
    assert!(known(&fixture), "its delivery's day is not over");
    fixture.now = fixture.now.plus_ms(5 * DAY_MS);
    fixture.sweep(all_before(fixture.now));
    assert!(!known(&fixture));
    fixture.reopen();
    assert!(!known(&fixture));
    // Its number is not given again.
    let next = fixture.endpoint("org", &["*"]);
    assert!(next.slot > deleted.slot);
}

//! Deliveries have no row until their first attempt has ended, or they have waited for some seconds.

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

use stormhook_store::command::AcceptEmitted;
use stormhook_store::maintenance::FlushStats;
use stormhook_store::{
    Cancel, DeleteEndpoint, DeliveryFilter, EmittedEvent, Endpoint, EventId, NextStep, Op, Reason,
    Retry, Status, UnixMs,
};
use support::*;

/// After this time all that still waits gets a row, with the next commit.
const WRITTEN_AFTER_MS: u64 = 5_000;

fn open_of(fixture: &Fixture, endpoint: &Endpoint) -> usize {
    fixture.rows(&format!("open WHERE slot = {}", endpoint.slot.0))
}

#[test]
fn a_delivery_whose_first_attempt_succeeds_has_one_row_at_its_end() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    assert_eq!((fixture.rows("open"), fixture.rows("done")), (0, 0));
    assert_eq!(fixture.reader().open_count(), 1);
    assert_eq!(fixture.status(pair(&made, &endpoint)), Status::Pending);
    fixture.expect_whole();
    let delivered = fixture.settle(pair(&made, &endpoint), NextStep::Success);
    assert_eq!(delivered.status, Status::Success);
    assert_eq!((fixture.rows("open"), fixture.rows("done")), (0, 1));
    assert_eq!(fixture.reader().open_count(), 0);
    fixture.expect_whole();
}

#[test]
fn one_whose_first_attempt_fails_is_open_from_then_on() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    let next = NextStep::RetryAt(fixture.now.plus_ms(60_000));
    fixture.settle(pair(&made, &endpoint), next);
    assert_eq!((fixture.rows("open"), fixture.rows("done")), (1, 0));
    fixture.reopen();
    assert_eq!(fixture.status(pair(&made, &endpoint)), Status::Retrying);
    fixture.expect_whole();
}

#[test]
fn every_list_shows_it_here_and_at_another_daemon() {
    let mut fixture = Fixture::new();
    let (first, second) = (
        fixture.endpoint("org", &["*"]),
        fixture.endpoint("org", &["*"]),
    );
    let events = fixture.orders(5);
    // One of them has ended, and one is retried.
    fixture.settle(pair(&events[2], &first), NextStep::Success);
    let next = NextStep::RetryAt(fixture.now.plus_ms(60_000));
    fixture.settle(pair(&events[3], &first), next);
    assert_eq!((fixture.rows("open"), fixture.rows("done")), (1, 1));
    let other = fixture.other(1);
    for limit in [1, 2, 3, 100] {
        let of_first = fixture.all_deliveries(&of_endpoint(first.id), limit);
        let found: Vec<(u64, Status)> = of_first.iter().map(|d| (d.sequence, d.status)).collect();
        let expected = [
            (5, Status::Pending),
            (4, Status::Retrying),
            (3, Status::Success),
            (2, Status::Pending),
            (1, Status::Pending),
        ];
        assert_eq!(found, expected, "{limit}");
        for reader in [&fixture, &other] {
            let all = reader.all_deliveries(&DeliveryFilter::default(), limit);
            assert_eq!(all.len(), 10, "{limit}");
            let pending = all.iter().filter(|d| d.status == Status::Pending);
            assert_eq!(pending.count(), 8, "{limit}");
        }
    }
    for reader in [&fixture, &other] {
        let found = reader.reader().bare_delivery(pair(&events[0], &second));
        let found = found.unwrap().unwrap();
        assert_eq!((found.sequence, found.status), (1, Status::Pending));
        assert_eq!(found.due, Some(events[0].id.accepted_at()));
    }
}

#[test]
fn a_crash_loses_none_and_sends_none_that_has_ended() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(4);
    fixture.settle(pair(&events[1], &endpoint), NextStep::Success);
    fixture.delivery_done(Cancel(pair(&events[2], &endpoint)));
    let before = fixture.open();
    assert_eq!(before.len(), 2);
    assert_eq!(fixture.rows("open"), 0);
    fixture.crash();
    fixture.reopen();
    assert_eq!(fixture.open(), before);
    assert_eq!(fixture.reader().open_count(), 2);
    fixture.expect_whole();
    // The first commit of the new owner gives them rows.
    let next = fixture.order();
    assert_eq!(fixture.rows("open"), 2);
    assert_eq!(fixture.delivery(pair(&next, &endpoint)).sequence, 5);
    for event in [&events[0], &events[3], &next] {
        fixture.settle(pair(event, &endpoint), NextStep::Success);
    }
    assert_eq!((fixture.rows("open"), fixture.rows("done")), (0, 5));
    fixture.expect_whole();
}

#[test]
fn what_still_waits_after_some_seconds_gets_a_row() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(3);
    fixture.pass_ms(WRITTEN_AFTER_MS - 1);
    fixture.settle(pair(&events[0], &endpoint), NextStep::Success);
    assert_eq!(fixture.rows("open"), 0);
    fixture.pass_ms(1);
    let late = fixture.order();
    assert_eq!(
        fixture.rows("open"),
        2,
        "not the one that was just accepted"
    );
    assert_eq!(fixture.reader().open_count(), 3);
    fixture.expect_whole();
    fixture.reopen();
    assert_eq!(fixture.status(pair(&late, &endpoint)), Status::Pending);
    fixture.expect_whole();
}

#[test]
fn an_operator_may_change_it_before_its_first_attempt() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(2);
    fixture.pass_ms(10);
    let cancelled = fixture.delivery_done(Cancel(pair(&events[0], &endpoint)));
    assert_eq!(cancelled.reason, Some(Reason::Cancelled));
    let retried = fixture.delivery_done(Retry(pair(&events[1], &endpoint)));
    assert_eq!(retried.status, Status::Pending);
    fixture.reopen();
    assert_eq!(fixture.status(pair(&events[0], &endpoint)), Status::Failed);
    assert_eq!(fixture.status(pair(&events[1], &endpoint)), Status::Pending);
    fixture.expect_whole();
}

#[test]
fn a_bulk_change_covers_those_before_it_and_none_after_it() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let other = fixture.endpoint("org", &["*"]);
    let before = fixture.orders(3);
    // In one batch with an event before it.
    let ops = vec![
        Op::Accept(event("org", "order.created")),
        Op::DeleteEndpoint(DeleteEndpoint { id: endpoint.id }),
        Op::Accept(event("org", "order.created")),
    ];
    fixture.apply(ops);
    let of_deleted = open_of(&fixture, &endpoint);
    assert_eq!(of_deleted, 4);
    assert_eq!(open_of(&fixture, &other), 0);
    for reopens in [false, true] {
        if reopens {
            fixture.reopen();
        }
        for event in &before {
            let delivery = fixture.delivery(pair(event, &endpoint));
            assert_eq!(delivery.reason, Some(Reason::EndpointDeleted));
            assert_eq!(fixture.status(pair(event, &other)), Status::Pending);
        }
        assert_eq!(fixture.open().len(), 5);
    }
    fixture.work_off();
    assert_eq!(open_of(&fixture, &endpoint), 0);
    fixture.expect_whole();
}

#[test]
fn beyond_ten_thousand_each_gets_a_row_at_once() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    for _ in 0..11 {
        fixture.apply(
            (0..1_000)
                .map(|_| Op::Accept(event("org", "order.created")))
                .collect(),
        );
    }
    assert_eq!(fixture.rows("open"), 1_000);
    assert_eq!(fixture.reader().open_count(), 11_000);
    fixture.expect_whole();
    fixture.reopen();
    assert_eq!(fixture.open().len(), 11_000);
}

/// A daemon of an earlier version takes part: if it took over, it would find only rows.
#[test]
fn each_gets_a_row_at_once_beside_a_daemon_that_does_not_know_of_them() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    drop(fixture.other(1));
    fixture.sql("UPDATE stormhook.seats SET schema = 2 WHERE seat = 1");
    fixture.reopen();
    let made = fixture.order();
    assert_eq!(fixture.rows("open"), 1);
    fixture.sql("UPDATE stormhook.seats SET fenced = true WHERE seat = 1");
    fixture.reopen();
    fixture.settle(pair(&made, &endpoint), NextStep::Success);
    fixture.order();
    assert_eq!(fixture.rows("open"), 0);
    fixture.expect_whole();
}

/// Their rows are gone with their day, while their events are kept for longer: they have not become fresh again.
#[test]
fn those_past_their_retention_are_not_sent_again() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    fixture.settle(pair(&made, &endpoint), NextStep::Success);
    fixture.now = fixture.now.plus_ms(2 * DAY_MS);
    fixture.sweep(stormhook_store::Horizon {
        events_before: UnixMs(0),
        attempts_before: fixture.now,
        ..stormhook_store::Horizon::default()
    });
    assert_eq!(fixture.rows("done"), 0);
    assert!(fixture.reader().event(made.id).unwrap().is_some());
    for reopens in [false, true] {
        if reopens {
            fixture.reopen();
        }
        let found = fixture.reader().bare_delivery(pair(&made, &endpoint));
        assert!(found.unwrap().is_none());
        assert_eq!(fixture.open(), []);
        assert_eq!(fixture.all_deliveries(&of_endpoint(endpoint.id), 10), []);
    }
    fixture.expect_whole();
}

/// Its id may lie before events that all have their rows, and then nobody would look for it.
#[test]
fn an_event_of_an_outbox_that_comes_late_has_rows_at_once() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let last = fixture.order();
    fixture.apply(vec![Op::FlushStats(FlushStats)]);
    assert_eq!(fixture.rows("open"), 1);
    let late = AcceptEmitted {
        organization: "org".to_owned(),
        events: vec![EmittedEvent {
            id: EventId(last.id.0 - 1),
            event: event("org", "order.created"),
        }],
    };
    assert_eq!(
        late.events[0].id.accepted_at(),
        fixture.now,
        "as if just accepted"
    );
    let late_id = pair_of(late.events[0].id, endpoint.slot);
    fixture.one(late);
    assert_eq!(fixture.rows("open"), 2);
    fixture.reopen();
    assert_eq!(fixture.open().len(), 2);
    assert_eq!(fixture.status(late_id), Status::Pending);
    fixture.expect_whole();
}

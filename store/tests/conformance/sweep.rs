//! Retention: what is dropped, what is kept, and in which steps.

use crate::bulk::recovering;
use crate::stats::of_all;
use crate::support::*;
use stormhook_store::maintenance::{FlushStats, Probe};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::stats::{Span, Window};
use stormhook_store::{
    BulkFound, Done, Horizon, NextStep, Op, Refusal, Replay, Retry, Status, UnixMs,
};

const NEVER: UnixMs = UnixMs(0);

#[test]
fn what_ended_before_the_horizon_is_dropped_and_the_rest_stays() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let old = fixture.orders(300);
    let ops = old.iter().enumerate().map(|(n, event)| {
        let verdict = [NextStep::Success, NextStep::GiveUp, NextStep::Gone][n % 3];
        Op::Settle(Box::new(settle(
            pair(event, &endpoint),
            verdict,
            fixture.now,
        )))
    });
    fixture.apply(ops.collect());
    fixture.pass_ms(DAY_MS);
    let horizon = fixture.now;
    let young = fixture.orders(10);
    fixture.sweep(horizon, horizon);
    for _ in 0..2 {
        let events = fixture.all_events(&EventFilter::default(), 250);
        assert_eq!(events.len(), 10);
        assert_eq!(
            fixture
                .all_deliveries(&DeliveryFilter::default(), 250)
                .len(),
            10
        );
        assert_eq!(
            fixture.all_deliveries(&of_endpoint(endpoint.id), 250).len(),
            10
        );
        assert_eq!(fixture.reader().event(old[3].id).unwrap(), None);
        assert_eq!(
            fixture
                .reader()
                .bare_delivery(pair(&old[3], &endpoint))
                .unwrap(),
            None
        );
        assert_eq!(fixture.recoverable(endpoint.id, true), 0);
        assert_eq!(fixture.delivery(pair(&young[0], &endpoint)).sequence, 301);
        assert_eq!(fixture.reader().swept_before(), horizon);
        fixture.expect_whole();
        fixture.reopen();
    }
    assert_eq!(fixture.reader().state(endpoint.slot).last_sequence, 310);
}

#[test]
fn a_held_delivery_keeps_its_event_and_loses_its_neighbours() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(50);
    for (n, event) in events.iter().enumerate() {
        if n != 20 {
            fixture.settle(pair(event, &endpoint), NextStep::Success);
        }
    }
    fixture.change(endpoint.id, activate(false));
    fixture.pass_ms(90 * DAY_MS);
    let horizon = fixture.now;
    for _ in 0..2 {
        fixture.sweep(horizon, horizon);
        let kept = fixture.all_events(&EventFilter::default(), 250);
        assert_eq!(kept, [events[20].clone()]);
        let read = fixture
            .reader()
            .event(events[20].id)
            .unwrap()
            .expect("it is kept");
        assert_eq!(read.data, events[20].data);
        let list = fixture.all_deliveries(&of_endpoint(endpoint.id), 50);
        assert_eq!(list.len(), 1);
        fixture.expect_whole();
        fixture.reopen();
    }
    fixture.change(endpoint.id, activate(true));
    fixture.settle(pair(&events[20], &endpoint), NextStep::Success);
    fixture.sweep(horizon, horizon);
    assert_eq!(fixture.all_events(&EventFilter::default(), 50), []);
    fixture.expect_whole();
}

#[test]
fn an_event_past_its_time_keeps_its_name_while_its_attempts_are_kept() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let id = pair(&event, &endpoint);
    fixture.settle(id, NextStep::GiveUp);
    fixture.pass_ms(DAY_MS);
    let now = fixture.now;
    fixture.sweep(now, NEVER);
    for _ in 0..2 {
        let kept = fixture
            .reader()
            .event(event.id)
            .unwrap()
            .expect("it is there");
        assert_eq!(kept.data, None);
        assert_eq!((&kept.event_type, kept.deliveries), (&event.event_type, 1));
        let view = fixture.reader().delivery(id).unwrap().expect("it is there");
        assert_eq!(view.delivery.attempts.len(), 1);
        fixture.reopen();
    }
    // There is nothing left to send.
    let replay = Replay {
        event: event.id,
        endpoint: endpoint.id,
    };
    assert_eq!(fixture.refusal(Retry(id)), Refusal::DataGone);
    assert_eq!(fixture.refusal(replay), Refusal::DataGone);
    assert_eq!(fixture.recoverable(endpoint.id, true), 0);
    fixture.sweep(now, now);
    assert_eq!(fixture.reader().event(event.id).unwrap(), None);
    fixture.expect_whole();
}

#[test]
fn attempts_past_their_time_go_before_the_event_they_were_of() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let id = pair(&event, &endpoint);
    fixture.settle(id, NextStep::GiveUp);
    fixture.pass_ms(DAY_MS);
    let now = fixture.now;
    fixture.sweep(NEVER, now);
    assert_eq!(fixture.reader().bare_delivery(id).unwrap(), None);
    let kept = fixture
        .reader()
        .event(event.id)
        .unwrap()
        .expect("it is there");
    assert_eq!(kept.data, event.data);
    fixture.expect_whole();
    // A replay of it is a first delivery, with the next number.
    let d = fixture.delivery_done(Replay {
        event: event.id,
        endpoint: endpoint.id,
    });
    assert_eq!((d.round, d.sequence), (1, 2));
    fixture.expect_whole();
}

#[test]
fn an_event_swept_in_a_batch_cannot_be_replayed_in_the_same_batch() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    fixture.settle(pair(&event, &endpoint), NextStep::Success);
    fixture.pass_ms(DAY_MS);
    let horizon = Horizon {
        events_before: fixture.now,
        attempts_before: fixture.now,
        ..Horizon::default()
    };
    let mut sweeper = fixture.reader().sweeper();
    sweeper.begin(horizon, fixture.now);
    let sweep = sweeper.find().unwrap().expect("something to drop");
    let applied = fixture.apply(vec![
        sweep.into(),
        Op::Replay(Replay {
            event: event.id,
            endpoint: endpoint.id,
        }),
    ]);
    assert!(matches!(
        applied.done[1],
        Done::Replay(Err(Refusal::NotFound))
    ));
    fixture.expect_whole();
}

#[test]
fn generations_are_dropped_when_nothing_of_them_is_left_and_their_keys_have_expired() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let held = fixture.order();
    let ops = (0..33_000).map(|n| Op::Accept(keyed("nobody", &n.to_string())));
    fixture.apply(ops.collect());
    fixture.apply(vec![Op::Probe(Probe)]);
    fixture.pass_ms(1_000);
    let horizon = fixture.now;
    fixture.sweep(horizon, horizon);
    // Past retention, but keys live for their own time.
    assert_eq!(fixture.all_events(&EventFilter::default(), 50).len(), 1);
    assert_eq!(
        fixture.all_deliveries(&of_endpoint(endpoint.id), 5).len(),
        1
    );
    fixture.pass_ms(2 * DAY_MS);
    let horizon = fixture.now;
    fixture.sweep(horizon, horizon);
    // A held delivery is still found in the list of its endpoint.
    assert_eq!(
        fixture.all_deliveries(&of_endpoint(endpoint.id), 5).len(),
        1
    );
    let rows = fixture.reader().check().unwrap().rows;
    fixture.settle(pair(&held, &endpoint), NextStep::Success);
    fixture.sweep(horizon, horizon);
    assert_eq!(
        fixture.all_deliveries(&of_endpoint(endpoint.id), 5).len(),
        0
    );
    let left = fixture.reader().check().unwrap().rows;
    assert!(left + 200 < rows, "{rows} rows became {left}");
    fixture.reopen();
    fixture.expect_whole();
    fixture.pass_ms(1);
    let next = fixture.order();
    assert_eq!(fixture.delivery(pair(&next, &endpoint)).sequence, 2);
}

#[test]
fn a_step_of_the_sweep_drops_a_bounded_number_of_rows() {
    let mut fixture = Fixture::new();
    let endpoints: Vec<_> = (0..40).map(|_| fixture.endpoint("org", &["*"])).collect();
    let events = fixture.orders(300);
    for event in &events {
        let ops = endpoints.iter().map(|e| {
            let settle = settle(pair(event, e), NextStep::Success, fixture.now);
            Op::Settle(Box::new(settle))
        });
        let ops = ops.collect();
        fixture.apply(ops);
    }
    fixture.pass_ms(DAY_MS);
    let horizon = fixture.now;
    let mut steps = 0;
    let mut left = 12_000;
    let mut sweeper = fixture.reader().sweeper();
    let horizon = Horizon {
        events_before: horizon,
        attempts_before: horizon,
        ..Horizon::default()
    };
    sweeper.begin(horizon, fixture.now);
    let mut step = sweeper.find().unwrap();
    while let Some(sweep) = step.take() {
        let swept = fixture.run(sweep.clone());
        steps += 1;
        let now_left = fixture.reader().check().unwrap().deliveries;
        assert!(left - now_left <= 5_000 + 1_000, "{left} to {now_left}");
        left = now_left;
        fixture.expect_whole();
        step = if swept.more {
            Some(sweep)
        } else {
            sweeper.find().unwrap()
        };
    }
    assert!(steps >= 3 && left == 0, "{steps} steps, {left} left");
    assert_eq!(fixture.all_events(&EventFilter::default(), 50), []);
}

#[test]
fn a_key_whose_event_was_swept_does_not_stand_in_the_way() {
    let mut fixture = Fixture::with(|o| o.idempotency_ttl_ms = 10 * DAY_MS);
    let first = fixture.accept(keyed("org", "k"));
    fixture.pass_ms(DAY_MS);
    let now = fixture.now;
    fixture.sweep(now, now);
    assert_eq!(fixture.reader().event(first.id).unwrap(), None);
    let second = fixture.accept(keyed("org", "k"));
    assert_ne!(first.id, second.id);
}

#[test]
fn an_open_delivery_is_never_swept() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(40);
    let next = fixture.now.plus_ms(90 * DAY_MS);
    fixture.settle(pair(&events[0], &endpoint), NextStep::RetryAt(next));
    fixture.settle(pair(&events[1], &endpoint), NextStep::Success);
    fixture.delivery_done(Retry(pair(&events[1], &endpoint)));
    fixture.pass_ms(60 * DAY_MS);
    let now = fixture.now;
    fixture.sweep(now, now);
    assert_eq!(fixture.open().len(), 40);
    assert_eq!(
        fixture.status(pair(&events[0], &endpoint)),
        Status::Retrying
    );
    assert_eq!(
        fixture.all_deliveries(&of_endpoint(endpoint.id), 50).len(),
        40
    );
    fixture.expect_whole();
}

#[test]
fn a_missed_event_that_is_swept_before_its_delivery_is_written_gets_none() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    fixture.change(endpoint.id, activate(false));
    // One loses its data, the other everything.
    let before_all = fixture.order();
    fixture.pass_ms(DAY_MS);
    let before_data = fixture.order();
    fixture.change(endpoint.id, activate(true));
    fixture.recover(fixture.recover_of(endpoint.id, true));
    let reader = fixture.reader();
    let (slot, upto) = reader.bulks()[0];
    let mut walk = reader.bulk_walk(slot, upto).unwrap();
    let found = loop {
        match walk.step().unwrap() {
            BulkFound::Work(found) => break found,
            BulkFound::Nothing => {}
            BulkFound::End => panic!("two events were missed"),
        }
    };
    assert_eq!(found.missed, [before_all.id, before_data.id]);
    fixture.pass_ms(DAY_MS);
    let now = fixture.now;
    fixture.sweep(now, before_data.id.accepted_at());
    let left = fixture.run(found);
    assert!(left.is_empty());
    for event in [&before_all, &before_data] {
        let made = reader.bare_delivery(pair(event, &endpoint)).unwrap();
        assert_eq!(made, None, "{}", event.id);
    }
    fixture.expect_whole();
}

/// It reads as open: what a caller was told will be sent isn't past its retention.
#[test]
fn what_a_recovery_has_no_room_for_is_not_swept() {
    let (mut fixture, endpoint) = recovering(400, 400);
    fixture.pass_ms(90 * DAY_MS);
    let horizon = fixture.now;
    fixture.sweep(horizon, horizon);
    let all = fixture.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(all.len(), 800);
    assert!(all.iter().all(|d| d.status == Status::Pending), "{all:?}");
    for waiting in fixture.open() {
        fixture.settle(waiting.id, NextStep::Success);
    }
    fixture.work_off();
    assert_eq!(fixture.open().len(), 400);
    for waiting in fixture.open() {
        fixture.settle(waiting.id, NextStep::Success);
    }
    fixture.sweep(horizon, horizon);
    let left = fixture.all_deliveries(&of_endpoint(endpoint.id), 250);
    assert_eq!(left.len(), 0);
    fixture.expect_whole();
}

/// Deliveries are removed before their event if they are kept for a shorter time; a replay creates one again.
#[test]
fn a_delivery_that_was_swept_and_made_again_is_listed_once() {
    let mut fixture = Fixture::with(|options| options.fold_commits = 3);
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    for round in 1..6 {
        let id = pair(&event, &endpoint);
        fixture.settle(id, NextStep::Success);
        fixture.pass_ms(DAY_MS);
        let now = fixture.now;
        fixture.sweep(UnixMs(0), now);
        let (event, endpoint) = (event.id, endpoint.id);
        let again = fixture.delivery_done(Replay { event, endpoint });
        assert_eq!(again.sequence, round + 1);
        for limit in [1, 10] {
            let listed = fixture.all_deliveries(&of_endpoint(endpoint), limit);
            assert_eq!(
                listed,
                std::slice::from_ref(&again),
                "round {round}, {limit} on a page"
            );
        }
    }
    fixture.expect_whole();
}

#[test]
fn old_windows_are_swept_and_the_sum_of_all_time_stays() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    for _ in 0..5 {
        let event = fixture.order();
        fixture.settle(pair(&event, &endpoint), NextStep::Success);
        fixture.apply(vec![Op::FlushStats(FlushStats)]);
        fixture.pass_ms(HOUR_MS);
    }
    let before = of_all(&fixture, Span::All);
    fixture.pass_ms(3 * DAY_MS);
    let none = stormhook_store::UnixMs(0);
    fixture.sweep(none, none);
    assert_eq!(of_all(&fixture, Span::All), before);
    assert_eq!(of_all(&fixture, Span::Day), Window::default());
    fixture.expect_whole();
}

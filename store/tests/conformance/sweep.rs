//! Retention: what is dropped, what is kept, and in which steps.

use crate::support::*;
use stormhook_store::maintenance::Probe;
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{Done, Horizon, Op, Refusal, Replay, Retry, Status, UnixMs, Verdict};

const NEVER: UnixMs = UnixMs(0);

#[test]
fn what_ended_before_the_horizon_is_dropped_and_the_rest_stays() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let old = bed.orders(300);
    let ops = old.iter().enumerate().map(|(n, event)| {
        let verdict = [Verdict::Success, Verdict::GiveUp, Verdict::Gone][n % 3];
        Op::Settle(Box::new(settle(pair(event, &endpoint), verdict, bed.now)))
    });
    bed.apply(ops.collect());
    bed.pass_ms(DAY_MS);
    let horizon = bed.now;
    let young = bed.orders(10);
    bed.sweep(horizon, horizon);
    for _ in 0..2 {
        let events = bed.all_events(&EventFilter::default(), 250);
        assert_eq!(events.len(), 10);
        assert_eq!(
            bed.all_deliveries(&DeliveryFilter::default(), 250).len(),
            10
        );
        assert_eq!(bed.all_deliveries(&of_endpoint(endpoint.id), 250).len(), 10);
        assert_eq!(bed.reader().event(old[3].id).unwrap(), None);
        assert_eq!(
            bed.reader()
                .bare_delivery(pair(&old[3], &endpoint))
                .unwrap(),
            None
        );
        assert_eq!(bed.recoverable(endpoint.id, true), 0);
        assert_eq!(bed.delivery(pair(&young[0], &endpoint)).sequence, 301);
        assert_eq!(bed.reader().swept_before(), horizon);
        bed.expect_whole();
        bed.reopen();
    }
    assert_eq!(bed.reader().state(endpoint.slot).last_sequence, 310);
}

#[test]
fn a_held_delivery_keeps_its_event_and_loses_its_neighbours() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = bed.orders(50);
    for (n, event) in events.iter().enumerate() {
        if n != 20 {
            bed.settle(pair(event, &endpoint), Verdict::Success);
        }
    }
    bed.change(endpoint.id, activate(false));
    bed.pass_ms(90 * DAY_MS);
    let horizon = bed.now;
    for _ in 0..2 {
        bed.sweep(horizon, horizon);
        let kept = bed.all_events(&EventFilter::default(), 250);
        assert_eq!(kept, [events[20].clone()]);
        let read = bed
            .reader()
            .event(events[20].id)
            .unwrap()
            .expect("it is kept");
        assert_eq!(read.data, events[20].data);
        let list = bed.all_deliveries(&of_endpoint(endpoint.id), 50);
        assert_eq!(list.len(), 1);
        bed.expect_whole();
        bed.reopen();
    }
    bed.change(endpoint.id, activate(true));
    bed.settle(pair(&events[20], &endpoint), Verdict::Success);
    bed.sweep(horizon, horizon);
    assert_eq!(bed.all_events(&EventFilter::default(), 50), []);
    bed.expect_whole();
}

#[test]
fn an_event_past_its_time_keeps_its_name_while_its_attempts_are_kept() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let event = bed.order();
    let id = pair(&event, &endpoint);
    bed.settle(id, Verdict::GiveUp);
    bed.pass_ms(DAY_MS);
    let now = bed.now;
    bed.sweep(now, NEVER);
    for _ in 0..2 {
        let kept = bed.reader().event(event.id).unwrap().expect("it is there");
        assert_eq!(kept.data, None);
        assert_eq!((&kept.event_type, kept.deliveries), (&event.event_type, 1));
        let view = bed.reader().delivery(id).unwrap().expect("it is there");
        assert_eq!(view.delivery.attempts.len(), 1);
        bed.reopen();
    }
    // There is nothing left to send.
    let replay = Replay {
        event: event.id,
        endpoint: endpoint.id,
    };
    assert_eq!(bed.refusal(Retry(id)), Refusal::DataGone);
    assert_eq!(bed.refusal(replay), Refusal::DataGone);
    assert_eq!(bed.recoverable(endpoint.id, true), 0);
    bed.sweep(now, now);
    assert_eq!(bed.reader().event(event.id).unwrap(), None);
    bed.expect_whole();
}

#[test]
fn attempts_past_their_time_go_before_the_event_they_were_of() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let event = bed.order();
    let id = pair(&event, &endpoint);
    bed.settle(id, Verdict::GiveUp);
    bed.pass_ms(DAY_MS);
    let now = bed.now;
    bed.sweep(NEVER, now);
    assert_eq!(bed.reader().bare_delivery(id).unwrap(), None);
    let kept = bed.reader().event(event.id).unwrap().expect("it is there");
    assert_eq!(kept.data, event.data);
    bed.expect_whole();
    // A replay of it is a first delivery, with the next number.
    let d = bed.delivery_done(Replay {
        event: event.id,
        endpoint: endpoint.id,
    });
    assert_eq!((d.round, d.sequence), (1, 2));
    bed.expect_whole();
}

#[test]
fn an_event_swept_in_a_batch_cannot_be_replayed_in_the_same_batch() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let event = bed.order();
    bed.settle(pair(&event, &endpoint), Verdict::Success);
    bed.pass_ms(DAY_MS);
    let horizon = Horizon {
        events_before: bed.now,
        attempts_before: bed.now,
    };
    let mut sweeper = bed.reader().sweeper();
    sweeper.begin(horizon, bed.now);
    let sweep = sweeper.find().unwrap().expect("something to drop");
    let applied = bed.apply(vec![
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
    bed.expect_whole();
}

#[test]
fn generations_are_dropped_when_nothing_of_them_is_left_and_their_keys_have_expired() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let held = bed.order();
    let ops = (0..33_000).map(|n| Op::Accept(keyed("nobody", &n.to_string())));
    bed.apply(ops.collect());
    bed.apply(vec![Op::Probe(Probe)]);
    bed.pass_ms(1_000);
    let horizon = bed.now;
    bed.sweep(horizon, horizon);
    // Past retention, but keys live for their own time.
    assert_eq!(bed.all_events(&EventFilter::default(), 50).len(), 1);
    assert_eq!(bed.all_deliveries(&of_endpoint(endpoint.id), 5).len(), 1);
    bed.pass_ms(2 * DAY_MS);
    let horizon = bed.now;
    bed.sweep(horizon, horizon);
    // A held delivery is still found in the list of its endpoint.
    assert_eq!(bed.all_deliveries(&of_endpoint(endpoint.id), 5).len(), 1);
    let rows = bed.reader().check().unwrap().rows;
    bed.settle(pair(&held, &endpoint), Verdict::Success);
    bed.sweep(horizon, horizon);
    assert_eq!(bed.all_deliveries(&of_endpoint(endpoint.id), 5).len(), 0);
    let left = bed.reader().check().unwrap().rows;
    assert!(left + 200 < rows, "{rows} rows became {left}");
    bed.reopen();
    bed.expect_whole();
    bed.pass_ms(1);
    let next = bed.order();
    assert_eq!(bed.delivery(pair(&next, &endpoint)).sequence, 2);
}

#[test]
fn a_step_of_the_sweep_drops_a_bounded_number_of_rows() {
    let mut bed = Bed::new();
    let endpoints: Vec<_> = (0..40).map(|_| bed.endpoint("org", &["*"])).collect();
    let events = bed.orders(300);
    for event in &events {
        let ops = endpoints.iter().map(|e| {
            let settle = settle(pair(event, e), Verdict::Success, bed.now);
            Op::Settle(Box::new(settle))
        });
        let ops = ops.collect();
        bed.apply(ops);
    }
    bed.pass_ms(DAY_MS);
    let horizon = bed.now;
    let mut steps = 0;
    let mut left = 12_000;
    let mut sweeper = bed.reader().sweeper();
    let horizon = Horizon {
        events_before: horizon,
        attempts_before: horizon,
    };
    sweeper.begin(horizon, bed.now);
    let mut step = sweeper.find().unwrap();
    while let Some(sweep) = step.take() {
        let swept = bed.run(sweep.clone());
        steps += 1;
        let now_left = bed.reader().check().unwrap().deliveries;
        assert!(left - now_left <= 5_000 + 1_000, "{left} to {now_left}");
        left = now_left;
        bed.expect_whole();
        step = if swept.more {
            Some(sweep)
        } else {
            sweeper.find().unwrap()
        };
    }
    assert!(steps >= 3 && left == 0, "{steps} steps, {left} left");
    assert_eq!(bed.all_events(&EventFilter::default(), 50), []);
}

#[test]
fn a_key_whose_event_was_swept_does_not_stand_in_the_way() {
    let mut bed = Bed::with(|o| o.idempotency_ttl_ms = 10 * DAY_MS);
    let first = bed.accept(keyed("org", "k"));
    bed.pass_ms(DAY_MS);
    let now = bed.now;
    bed.sweep(now, now);
    assert_eq!(bed.reader().event(first.id).unwrap(), None);
    let second = bed.accept(keyed("org", "k"));
    assert_ne!(first.id, second.id);
}

#[test]
fn an_open_delivery_is_never_swept() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let events = bed.orders(40);
    let next = bed.now.plus_ms(90 * DAY_MS);
    bed.settle(pair(&events[0], &endpoint), Verdict::RetryAt(next));
    bed.settle(pair(&events[1], &endpoint), Verdict::Success);
    bed.delivery_done(Retry(pair(&events[1], &endpoint)));
    bed.pass_ms(60 * DAY_MS);
    let now = bed.now;
    bed.sweep(now, now);
    assert_eq!(bed.open().len(), 40);
    assert_eq!(bed.status(pair(&events[0], &endpoint)), Status::Retrying);
    assert_eq!(bed.all_deliveries(&of_endpoint(endpoint.id), 50).len(), 40);
    bed.expect_whole();
}

//! What the sweep looks at, what it commits, and what it forgets about endpoints.

use crate::bulk::discard;
use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::{EndpointChange, TypePattern, Why};
use stormhook_store::maintenance::Probe;
use stormhook_store::{
    Accepted, BulkFound, DeleteEndpoint, DeliveryId, Done, Endpoint, EndpointId, Event, EventId,
    Horizon, NextStep, Op, Replay, Sweeper, UnixMs,
};

/// A horizon of events and one of attempts, in days after the start: either may be the earlier one.
const ORDERS: [(u64, u64); 3] = [(30, 60), (60, 30), (45, 45)];

fn horizon(days: (u64, u64)) -> Horizon {
    Horizon {
        events_before: START.plus_ms(days.0 * DAY_MS),
        attempts_before: START.plus_ms(days.1 * DAY_MS),
        ..Horizon::default()
    }
}

/// Ninety days with one pack per event; the delivery of every tenth event is held.
struct Old {
    fixture: Fixture,
    endpoint: Arc<Endpoint>,
    events: Vec<Arc<Event>>,
    held: Vec<DeliveryId>,
}

fn old() -> Old {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let (mut events, mut held) = (Vec::new(), Vec::new());
    for n in 0..180 {
        let event = fixture.order();
        let id = pair(&event, &endpoint);
        if n % 10 == 5 {
            held.push(id);
        } else {
            fixture.settle(id, NextStep::Success);
        }
        events.push(event);
        fixture.pass_ms(DAY_MS / 2);
    }
    fixture.change(endpoint.id, activate(false));
    Old {
        fixture,
        endpoint,
        events,
        held,
    }
}

impl Old {
    fn has(&self, event: EventId) -> (bool, bool) {
        let event = self.fixture.reader().event(event).unwrap();
        let has_data = event.as_ref().is_some_and(|e| e.data.is_some());
        (event.is_some(), has_data)
    }

    /// Exactly what the horizon says is kept.
    fn expect_kept(&self, days: (u64, u64), held: &[DeliveryId]) {
        let horizon = horizon(days);
        for event in &self.events {
            let id = pair(event, &self.endpoint);
            let at = event.id.accepted_at();
            let held = held.contains(&id);
            let (data, attempts) = (at >= horizon.events_before, at >= horizon.attempts_before);
            let expected = (held || data || attempts, held || data);
            assert_eq!(self.has(event.id), expected, "{days:?} {at:?}");
            let delivery = self.fixture.reader().bare_delivery(id).unwrap();
            assert_eq!(delivery.is_some(), held || attempts, "{days:?} {at:?}");
        }
        self.fixture.expect_whole();
    }
}

#[test]
fn a_pass_of_the_sweep_with_nothing_to_do_makes_no_commit() {
    for days in ORDERS {
        let mut old = old();
        let mut sweeper = old.fixture.reader().sweeper();
        assert!(old.fixture.sweep_by(&mut sweeper, horizon(days)) > 0);
        old.expect_kept(days, &old.held);
        let commit = old.fixture.reader().commit();
        assert_eq!(
            old.fixture.sweep_by(&mut sweeper, horizon(days)),
            0,
            "{days:?}"
        );
        // Nor after a restart.
        drop(sweeper);
        old.fixture.reopen();
        let mut sweeper = old.fixture.reader().sweeper();
        assert_eq!(
            old.fixture.sweep_by(&mut sweeper, horizon(days)),
            0,
            "{days:?}"
        );
        assert_eq!(old.fixture.reader().commit(), commit, "{days:?}");
        assert_eq!(
            old.fixture.reader().swept_before(),
            horizon(days).events_before
        );
    }
}

#[test]
fn a_pass_drops_what_came_to_lie_before_a_horizon_and_what_is_held_no_more() {
    for days in ORDERS {
        let mut old = old();
        let mut sweeper = old.fixture.reader().sweeper();
        old.fixture.sweep_by(&mut sweeper, horizon(days));
        let later = (days.0 + 10, days.1 + 10);
        old.fixture.sweep_by(&mut sweeper, horizon(later));
        old.expect_kept(later, &old.held);
        // Half of the held deliveries end.
        old.fixture.change(old.endpoint.id, activate(true));
        let still_held = old.held.split_off(9);
        for id in std::mem::take(&mut old.held) {
            old.fixture.settle(id, NextStep::Success);
        }
        old.fixture.sweep_by(&mut sweeper, horizon(later));
        old.expect_kept(later, &still_held);
        assert_eq!(old.fixture.sweep_by(&mut sweeper, horizon(later)), 0);
    }
}

#[test]
fn a_sweep_that_was_cut_short_goes_on_where_it_was() {
    for days in ORDERS {
        let mut old = old();
        let mut sweeper = old.fixture.reader().sweeper();
        sweeper.begin(horizon(days), old.fixture.now);
        for _ in 0..2 {
            let op = sweeper.find().unwrap().expect("something to drop");
            old.fixture.one(op);
        }
        drop(sweeper);
        old.fixture.reopen();
        let mut sweeper = old.fixture.reader().sweeper();
        old.fixture.sweep_by(&mut sweeper, horizon(days));
        old.expect_kept(days, &old.held);
    }
}

/// Returns the number of steps of a pass without work.
fn steps_in_vain(sweeper: &mut Sweeper, horizon: Horizon, now: UnixMs) -> usize {
    sweeper.begin(horizon, now);
    for steps in 1.. {
        match sweeper.step().unwrap() {
            stormhook_store::Found::Nothing => {}
            stormhook_store::Found::End => return steps,
            stormhook_store::Found::Work(sweep) => panic!("{sweep:?}"),
        }
    }
    0
}

#[test]
fn a_pass_looks_at_a_bounded_number_of_held_rows() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(30_000);
    fixture.change(endpoint.id, activate(false));
    fixture.pass_ms(90 * DAY_MS);
    let horizon = Horizon {
        events_before: fixture.now,
        attempts_before: fixture.now,
        ..Horizon::default()
    };
    let mut sweeper = fixture.reader().sweeper();
    fixture.sweep_by(&mut sweeper, horizon);
    // A thousand rows per step, and one step for each other part of a pass.
    let steps = steps_in_vain(&mut sweeper, horizon, fixture.now);
    assert!(steps <= 30, "{steps}");
    // An ended delivery is found within two passes, wherever it is.
    fixture.change(endpoint.id, activate(true));
    for at in [10, 15_000, 29_990] {
        fixture.settle(pair(&events[at], &endpoint), NextStep::Success);
        for _ in 0..2 {
            fixture.sweep_by(&mut sweeper, horizon);
        }
        assert_eq!(fixture.reader().event(events[at].id).unwrap(), None, "{at}");
    }
}

fn why(fixture: &Fixture, event: EventId, endpoint: EndpointId) -> Option<Why> {
    let explained = fixture.reader().explain(event).unwrap().expect("the event");
    let found = explained
        .answers
        .into_iter()
        .find(|(id, _)| *id == endpoint);
    found.map(|(_, why)| why)
}

#[test]
fn a_deleted_endpoint_is_told_of_for_as_long_as_retention_lasts() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let other = fixture.endpoint("org", &["*"]);
    let before = fixture.order();
    for endpoint in [&endpoint, &other] {
        fixture.settle(pair(&before, endpoint), NextStep::Success);
    }
    fixture.pass_ms(1);
    fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
    fixture.work_off();
    let after = fixture.order();
    fixture.settle(pair(&after, &other), NextStep::Success);
    assert_eq!(why(&fixture, before.id, endpoint.id), Some(Why::Subscribed));
    assert_eq!(why(&fixture, after.id, endpoint.id), Some(Why::Deleted));
    let deleted_at = fixture.now;
    fixture.pass_ms(30 * DAY_MS);
    fixture.sweep(deleted_at, deleted_at);
    fixture.reopen();
    assert_eq!(why(&fixture, after.id, endpoint.id), Some(Why::Deleted));
    assert!(fixture.reader().endpoint_or_mark(endpoint.id).is_some());
    let later = deleted_at.plus_ms(1);
    let young = fixture.order();
    fixture.sweep(later, later);
    for _ in 0..2 {
        assert_eq!(why(&fixture, young.id, endpoint.id), None);
        assert_eq!(why(&fixture, young.id, other.id), Some(Why::Subscribed));
        assert!(fixture.reader().endpoint_or_mark(endpoint.id).is_none());
        assert!(
            fixture
                .all_deliveries(&of_endpoint(endpoint.id), 10)
                .is_empty()
        );
        fixture.expect_whole();
        fixture.reopen();
    }
    // Its number is never reused.
    assert_eq!(fixture.endpoint("org", &["*"]).slot.0, other.slot.0 + 1);
}

#[test]
fn a_deleted_endpoint_stays_while_one_of_its_deliveries_is_left() {
    let mut fixture = Fixture::new();
    let gone = fixture.endpoint("org", &["*"]);
    let holding = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    fixture.change(holding.id, activate(false));
    fixture.endpoint_done(DeleteEndpoint { id: gone.id });
    // Its end is not written yet.
    fixture.pass_ms(90 * DAY_MS);
    let now = fixture.now;
    let mut sweeper = fixture.reader().sweeper();
    let horizon = Horizon {
        events_before: now,
        attempts_before: now,
        ..Horizon::default()
    };
    fixture.sweep_by(&mut sweeper, horizon);
    assert!(fixture.reader().endpoint_or_mark(gone.id).is_some());
    fixture.work_off();
    // Its delivery is kept with the event, which another endpoint holds.
    for _ in 0..2 {
        fixture.sweep_by(&mut sweeper, horizon);
        let view = fixture.reader().delivery(pair(&event, &gone)).unwrap();
        assert_eq!(view.expect("it is kept").endpoint, gone.id);
        fixture.expect_whole();
    }
    fixture.change(holding.id, activate(true));
    fixture.settle(pair(&event, &holding), NextStep::Success);
    fixture.sweep_by(&mut sweeper, horizon);
    assert!(fixture.reader().endpoint_or_mark(gone.id).is_none());
    assert_eq!(fixture.sweep_by(&mut sweeper, horizon), 0);
    fixture.expect_whole();
}

#[test]
fn what_an_endpoint_was_is_known_for_every_event_within_retention() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["order.*"]);
    let mut expected = Vec::new();
    for day in 0..40usize {
        let types: &[&str] = if day % 3 == 0 {
            &["other.*"]
        } else {
            &["order.*"]
        };
        fixture.change(
            endpoint.id,
            EndpointChange {
                event_types: Some(types.iter().filter_map(|t| TypePattern::parse(t)).collect()),
                ..activate(day % 3 == 1)
            },
        );
        let event = fixture.order();
        let why = [
            Why::TypeNotSubscribed,
            Why::Subscribed,
            Why::InactiveAtAcceptance,
        ][day % 3];
        expected.push((event, why));
        fixture.pass_ms(DAY_MS);
    }
    fixture.change(endpoint.id, activate(false));
    let held: Vec<_> = fixture.open().iter().map(|w| w.id.event).collect();
    let horizon = START.plus_ms(20 * DAY_MS);
    fixture.sweep(horizon, horizon);
    for (event, why_then) in &expected {
        let young = event.id.accepted_at() >= horizon;
        if young || held.contains(&event.id) {
            assert_eq!(why(&fixture, event.id, endpoint.id), Some(*why_then));
        }
    }
    // Those missed within retention are still found.
    fixture.change(endpoint.id, activate(true));
    let missed = expected
        .iter()
        .filter(|(e, why)| e.id.accepted_at() >= horizon && *why == Why::InactiveAtAcceptance)
        .count();
    assert_eq!(fixture.recoverable(endpoint.id, true), missed as u64);
    fixture.expect_whole();
}

/// Returns a store that folds its journal at a thousand keys.
fn folding(idempotency_ttl_ms: u64) -> Fixture {
    Fixture::with(|o| {
        o.fold_items = 1_000;
        o.keys_per_block = 2;
        o.idempotency_ttl_ms = idempotency_ttl_ms;
    })
}

/// Accepts enough keyed events without deliveries to make the next commit fold the journal.
fn fold(fixture: &mut Fixture, salt: &str) {
    let ops = (0..1_000).map(|n| Op::Accept(keyed("nobody", &format!("{salt}{n}"))));
    fixture.apply(ops.collect());
    fixture.apply(vec![Op::Probe(Probe)]);
}

#[test]
fn a_generation_stays_while_a_delivery_made_late_of_an_older_event_is_held() {
    let mut fixture = folding(DAY_MS);
    let late = fixture.endpoint("org", &["other.type"]);
    let event = fixture.order();
    fold(&mut fixture, "a");
    let replay = Replay {
        event: event.id,
        endpoint: late.id,
    };
    let made = fixture.delivery_done(replay);
    fold(&mut fixture, "b");
    fixture.change(late.id, activate(false));
    fixture.pass_ms(60 * DAY_MS);
    let now = fixture.now;
    for _ in 0..2 {
        fixture.sweep(now, now);
        let list = fixture.all_deliveries(&of_endpoint(late.id), 5);
        let ids: Vec<_> = list.iter().map(|d| d.id).collect();
        assert_eq!(ids, [made.id]);
        fixture.expect_whole();
        fixture.reopen();
    }
    let held = fixture.reader().check().unwrap().rows;
    fixture.change(late.id, activate(true));
    fixture.settle(made.id, NextStep::Success);
    fixture.sweep(now, now);
    fixture.expect_whole();
    // The generation and its keys are removed with it.
    let left = fixture.reader().check().unwrap().rows;
    assert!(left + 200 < held, "{held} rows became {left}");
}

#[test]
fn a_generation_stays_while_one_of_its_keys_lives() {
    let mut fixture = folding(10 * DAY_MS);
    let late = fixture.endpoint("org", &["other.type"]);
    let event = fixture.accept(keyed("org", "k"));
    fold(&mut fixture, "a");
    // The event is held by a delivery that a later generation lists.
    fixture.delivery_done(Replay {
        event: event.id,
        endpoint: late.id,
    });
    fixture.change(late.id, activate(false));
    fixture.pass_ms(DAY_MS);
    let now = fixture.now;
    fixture.sweep(now, now);
    match fixture.one(Op::Accept(keyed("org", "k"))) {
        Done::Accept(Ok(Accepted {
            event: known,
            replayed: true,
        })) => assert_eq!(known.id, event.id),
        other => panic!("{other:?}"),
    }
    let rows = fixture.reader().check().unwrap().rows;
    fixture.pass_ms(10 * DAY_MS);
    fixture.sweep(now, now);
    let left = fixture.reader().check().unwrap().rows;
    assert!(left + 200 < rows, "{rows} rows became {left}");
}

#[test]
fn how_an_endpoint_does_outlives_a_fold_of_a_journal_without_a_delivery_to_it() {
    let mut fixture = folding(DAY_MS);
    let endpoint = fixture.endpoint("org", &["*"]);
    let [good, bad] = [fixture.order(), fixture.order()].map(|event| pair(&event, &endpoint));
    fold(&mut fixture, "a");
    fixture.pass_ms(1_000);
    fixture.settle(good, NextStep::Success);
    fixture.pass_ms(1_000);
    let next = fixture.now.plus_ms(1_000);
    fixture.settle(bad, NextStep::RetryAt(next));
    let state = fixture.reader().state(endpoint.slot);
    assert_eq!((state.failure_count, state.last_sequence), (1, 2));
    assert_eq!(state.failing_since, Some(START.plus_ms(2_000)));
    assert_eq!(state.last_success_at, Some(START.plus_ms(1_000)));
    fold(&mut fixture, "b");
    fixture.reopen();
    assert_eq!(fixture.reader().state(endpoint.slot), state);
    fixture.expect_whole();
}

#[test]
fn a_walk_goes_on_where_the_journal_is_folded_under_it() {
    let mut fixture = Fixture::with(|options| options.fold_items = 1_200);
    let endpoint = fixture.endpoint("org", &["*"]);
    for _ in 0..5 {
        fixture.orders(700);
    }
    fixture.change(endpoint.id, activate(false));
    fixture.change(endpoint.id, discard());
    let (slot, upto) = fixture.reader().bulks()[0];
    let mut walk = fixture.reader().bulk_walk(slot, upto).unwrap();
    let mut found = Vec::new();
    for _ in 0..100 {
        match walk.step().unwrap() {
            BulkFound::Work(work) => found.extend(work.events),
            BulkFound::Nothing => {}
            BulkFound::End => break,
        }
        // Each commit may fold, and none of these is the walk's.
        fixture.orders(700);
    }
    assert!(fixture.reader().generations().0 > 3);
    assert_eq!(found.len(), 3_500);
    found.dedup();
    assert_eq!(found.len(), 3_500, "each once");
}

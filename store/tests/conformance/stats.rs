//! Stats windows: counters are exact and survive; histograms are flushed and merged.

use crate::support::*;
use stormhook_store::maintenance::{FlushStats, Probe};
use stormhook_store::stats::{Counters, Span, Window};
use stormhook_store::{NextStep, Op, Retry, StatsOf};

pub(crate) fn of_all(fixture: &Fixture, span: Span) -> Window {
    fixture
        .reader()
        .stats(span, fixture.now, &StatsOf::All)
        .unwrap()
}

const SPANS: [Span; 4] = [Span::FiveMinutes, Span::Hour, Span::Day, Span::All];

#[test]
fn counters_are_exact_in_every_span_and_survive_reopening() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let ids: Vec<_> = fixture
        .orders(6)
        .iter()
        .map(|e| pair(e, &endpoint))
        .collect();
    fixture.accept(keyed("org", "k"));
    fixture.one(Op::Accept(keyed("org", "k")));
    let mut other = keyed("org", "k");
    other.data = b"2".to_vec();
    fixture.one(Op::Accept(other));
    let next = fixture.now.plus_ms(1);
    fixture.settle(ids[0], NextStep::Success);
    fixture.settle(ids[1], NextStep::RetryAt(next));
    fixture.settle(ids[1], NextStep::Success);
    fixture.settle(ids[2], NextStep::RetryAt(next));
    fixture.settle(ids[2], NextStep::GiveUp);
    fixture.settle(ids[3], NextStep::Gone);
    fixture.settle(ids[4], NextStep::Interrupted);
    let expected = Counters {
        success: 2,
        failure: 4,
        abandoned: 1,
        first_attempts: 4,
        first_successes: 1,
        accepted: 7,
        replays: 1,
        conflicts: 1,
    };
    for _ in 0..2 {
        for span in SPANS {
            assert_eq!(of_all(&fixture, span).counters, expected, "{span:?}");
        }
        fixture.reopen();
    }
    // After a fold they are the same, and counting continues from there.
    fixture.orders(32_768);
    fixture.apply(vec![Op::Probe(Probe)]);
    fixture.reopen();
    fixture.order();
    for span in SPANS {
        let accepted = of_all(&fixture, span).counters.accepted;
        assert_eq!(accepted, 7 + 32_768 + 1, "{span:?}");
    }
}

#[test]
fn each_span_reaches_as_far_back_as_it_says() {
    let mut fixture = Fixture::new();
    // Windows are whole minutes and hours: start at the beginning of one.
    fixture.now.0 -= fixture.now.0 % HOUR_MS;
    for minutes in [0, 4, 50, 20 * 60, 3 * 24 * 60] {
        fixture.pass_ms(minutes * 60_000);
        fixture.order();
    }
    let counts = |fixture: &Fixture| SPANS.map(|span| of_all(fixture, span).counters.accepted);
    assert_eq!(counts(&fixture), [1, 1, 1, 5]);
    fixture.pass_ms(4 * 60_000);
    fixture.order();
    assert_eq!(counts(&fixture), [2, 2, 2, 6]);
    fixture.pass_ms(30 * 60_000);
    assert_eq!(counts(&fixture), [0, 2, 2, 6]);
    fixture.pass_ms(2 * HOUR_MS);
    assert_eq!(counts(&fixture), [0, 0, 2, 6]);
    fixture.pass_ms(26 * HOUR_MS);
    assert_eq!(counts(&fixture), [0, 0, 0, 6]);
}

#[test]
fn histograms_are_the_same_before_and_after_they_are_flushed_and_merge_over_windows() {
    let mut fixture = Fixture::new();
    let a = fixture.endpoint("org", &["*"]);
    let b = fixture.endpoint("org", &["*"]);
    for minute in 0..4u64 {
        let event = fixture.order();
        fixture.pass_ms(1_000 * (minute + 1));
        fixture.settle(pair(&event, &a), NextStep::Success);
        fixture.settle(pair(&event, &b), NextStep::GiveUp);
        fixture.pass_ms(60_000);
        let before: Vec<_> = SPANS.map(|span| of_all(&fixture, span)).to_vec();
        if minute % 2 == 0 {
            assert!(fixture.reader().stats_wait());
            // What settles in the batch that flushes is not lost.
            fixture.apply(vec![Op::FlushStats(FlushStats), Op::FlushStats(FlushStats)]);
            assert!(!fixture.reader().stats_wait());
            assert_eq!(SPANS.map(|span| of_all(&fixture, span)).to_vec(), before);
            fixture.reopen();
            assert_eq!(SPANS.map(|span| of_all(&fixture, span)).to_vec(), before);
        }
    }
    for span in SPANS {
        let all = of_all(&fixture, span);
        assert_eq!(all.latency.count(), 4);
        assert_eq!(all.latency.total_us(), 10_000_000);
        assert_eq!(all.first_attempt_latency, all.latency);
        assert_eq!(all.attempt_duration.count(), 8);
        let summary = all.latency.summary().expect("there are values");
        assert!((summary.avg - 2_500_000.0).abs() < 1.0);
        assert!((summary.max - 4_000_000.0).abs() < 1.0);
    }
    fixture.expect_whole();
}

#[test]
fn each_endpoint_has_windows_of_its_own_that_add_up() {
    let mut fixture = Fixture::new();
    let a = fixture.endpoint("org", &["*"]);
    let b = fixture.endpoint("org", &["*"]);
    let idle = fixture.endpoint("org2", &["*"]);
    for n in 0..5 {
        let event = fixture.order();
        fixture.settle(pair(&event, &a), NextStep::Success);
        if n % 2 == 0 {
            fixture.settle(pair(&event, &b), NextStep::GiveUp);
        }
        if n == 2 {
            fixture.apply(vec![Op::FlushStats(FlushStats)]);
        }
    }
    for span in SPANS {
        let of = |slots: &[_]| {
            let of = StatsOf::Endpoints(slots.to_vec());
            fixture.reader().stats(span, fixture.now, &of).unwrap()
        };
        assert_eq!(of(&[a.slot]).counters.success, 5);
        assert_eq!(of(&[b.slot]).counters.abandoned, 3);
        assert_eq!(of(&[b.slot]).latency.count(), 0);
        assert_eq!(of(&[idle.slot]), Window::default());
        assert_eq!(of(&[]), Window::default());
        let both = of(&[a.slot, b.slot]);
        assert_eq!((both.counters.success, both.counters.failure), (5, 3));
        assert_eq!(
            both.attempt_duration,
            of_all(&fixture, span).attempt_duration
        );
        // Naming one twice does not count it twice.
        assert_eq!(of(&[a.slot, a.slot]), of(&[a.slot]));
    }
}

#[test]
fn latency_is_of_deliveries_that_succeeded_in_their_first_round() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let id = pair(&event, &endpoint);
    fixture.pass_ms(2_000);
    let next = fixture.now.plus_ms(1);
    fixture.settle(id, NextStep::RetryAt(next));
    fixture.pass_ms(3_000);
    fixture.settle(id, NextStep::Success);
    fixture.delivery_done(Retry(id));
    fixture.pass_ms(9_000);
    fixture.settle(id, NextStep::Success);
    let all = of_all(&fixture, Span::All);
    assert_eq!(all.latency.total_us(), 5_000_000);
    assert_eq!(all.latency.count(), 1);
    assert_eq!(all.first_attempt_latency.count(), 0);
    assert_eq!(all.attempt_duration.count(), 3);
    assert_eq!(all.counters.first_attempts, 1);
}

//! Stats windows: counters are exact and survive; histograms are flushed and merged.

use crate::support::*;
use stormhook_store::maintenance::{FlushStats, Probe};
use stormhook_store::stats::{Counters, Span, Window};
use stormhook_store::{Op, Retry, StatsOf, Verdict};

fn of_all(bed: &Bed, span: Span) -> Window {
    bed.reader().stats(span, bed.now, &StatsOf::All).unwrap()
}

const SPANS: [Span; 4] = [Span::FiveMinutes, Span::Hour, Span::Day, Span::All];

#[test]
fn counters_are_exact_in_every_span_and_survive_reopening() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let ids: Vec<_> = bed.orders(6).iter().map(|e| pair(e, &endpoint)).collect();
    bed.accept(keyed("org", "k"));
    bed.one(Op::Accept(keyed("org", "k")));
    let mut other = keyed("org", "k");
    other.data = b"2".to_vec();
    bed.one(Op::Accept(other));
    let next = bed.now.plus_ms(1);
    bed.settle(ids[0], Verdict::Success);
    bed.settle(ids[1], Verdict::RetryAt(next));
    bed.settle(ids[1], Verdict::Success);
    bed.settle(ids[2], Verdict::RetryAt(next));
    bed.settle(ids[2], Verdict::GiveUp);
    bed.settle(ids[3], Verdict::Gone);
    bed.settle(ids[4], Verdict::Interrupted);
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
            assert_eq!(of_all(&bed, span).counters, expected, "{span:?}");
        }
        bed.reopen();
    }
    // After a fold they are the same, and counting continues from there.
    bed.orders(32_768);
    bed.apply(vec![Op::Probe(Probe)]);
    bed.reopen();
    bed.order();
    for span in SPANS {
        let accepted = of_all(&bed, span).counters.accepted;
        assert_eq!(accepted, 7 + 32_768 + 1, "{span:?}");
    }
}

#[test]
fn each_span_reaches_as_far_back_as_it_says() {
    let mut bed = Bed::new();
    // Windows are whole minutes and hours: start at the beginning of one.
    bed.now.0 -= bed.now.0 % HOUR_MS;
    for minutes in [0, 4, 50, 20 * 60, 3 * 24 * 60] {
        bed.pass_ms(minutes * 60_000);
        bed.order();
    }
    let counts = |bed: &Bed| SPANS.map(|span| of_all(bed, span).counters.accepted);
    assert_eq!(counts(&bed), [1, 1, 1, 5]);
    bed.pass_ms(4 * 60_000);
    bed.order();
    assert_eq!(counts(&bed), [2, 2, 2, 6]);
    bed.pass_ms(30 * 60_000);
    assert_eq!(counts(&bed), [0, 2, 2, 6]);
    bed.pass_ms(2 * HOUR_MS);
    assert_eq!(counts(&bed), [0, 0, 2, 6]);
    bed.pass_ms(26 * HOUR_MS);
    assert_eq!(counts(&bed), [0, 0, 0, 6]);
}

#[test]
fn histograms_are_the_same_before_and_after_they_are_flushed_and_merge_over_windows() {
    let mut bed = Bed::new();
    let a = bed.endpoint("org", &["*"]);
    let b = bed.endpoint("org", &["*"]);
    for minute in 0..4u64 {
        let event = bed.order();
        bed.pass_ms(1_000 * (minute + 1));
        bed.settle(pair(&event, &a), Verdict::Success);
        bed.settle(pair(&event, &b), Verdict::GiveUp);
        bed.pass_ms(60_000);
        let before: Vec<_> = SPANS.map(|span| of_all(&bed, span)).to_vec();
        if minute % 2 == 0 {
            assert!(bed.reader().stats_wait());
            // What settles in the batch that flushes is not lost.
            bed.apply(vec![Op::FlushStats(FlushStats), Op::FlushStats(FlushStats)]);
            assert!(!bed.reader().stats_wait());
            assert_eq!(SPANS.map(|span| of_all(&bed, span)).to_vec(), before);
            bed.reopen();
            assert_eq!(SPANS.map(|span| of_all(&bed, span)).to_vec(), before);
        }
    }
    for span in SPANS {
        let all = of_all(&bed, span);
        assert_eq!(all.latency.count(), 4);
        assert_eq!(all.latency.total_us(), 10_000_000);
        assert_eq!(all.first_attempt_latency, all.latency);
        assert_eq!(all.attempt_duration.count(), 8);
        let summary = all.latency.summary().expect("there are values");
        assert!((summary.avg - 2_500_000.0).abs() < 1.0);
        assert!((summary.max - 4_000_000.0).abs() < 1.0);
    }
    bed.expect_whole();
}

#[test]
fn each_endpoint_has_windows_of_its_own_that_add_up() {
    let mut bed = Bed::new();
    let a = bed.endpoint("org", &["*"]);
    let b = bed.endpoint("org", &["*"]);
    let idle = bed.endpoint("org2", &["*"]);
    for n in 0..5 {
        let event = bed.order();
        bed.settle(pair(&event, &a), Verdict::Success);
        if n % 2 == 0 {
            bed.settle(pair(&event, &b), Verdict::GiveUp);
        }
        if n == 2 {
            bed.apply(vec![Op::FlushStats(FlushStats)]);
        }
    }
    for span in SPANS {
        let of = |slots: &[_]| {
            let of = StatsOf::Endpoints(slots.to_vec());
            bed.reader().stats(span, bed.now, &of).unwrap()
        };
        assert_eq!(of(&[a.slot]).counters.success, 5);
        assert_eq!(of(&[b.slot]).counters.abandoned, 3);
        assert_eq!(of(&[b.slot]).latency.count(), 0);
        assert_eq!(of(&[idle.slot]), Window::default());
        assert_eq!(of(&[]), Window::default());
        let both = of(&[a.slot, b.slot]);
        assert_eq!((both.counters.success, both.counters.failure), (5, 3));
        assert_eq!(both.attempt_duration, of_all(&bed, span).attempt_duration);
        // Naming one twice does not count it twice.
        assert_eq!(of(&[a.slot, a.slot]), of(&[a.slot]));
    }
}

#[test]
fn latency_is_of_deliveries_that_succeeded_in_their_first_round() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    let event = bed.order();
    let id = pair(&event, &endpoint);
    bed.pass_ms(2_000);
    let next = bed.now.plus_ms(1);
    bed.settle(id, Verdict::RetryAt(next));
    bed.pass_ms(3_000);
    bed.settle(id, Verdict::Success);
    bed.delivery_done(Retry(id));
    bed.pass_ms(9_000);
    bed.settle(id, Verdict::Success);
    let all = of_all(&bed, Span::All);
    assert_eq!(all.latency.total_us(), 5_000_000);
    assert_eq!(all.latency.count(), 1);
    assert_eq!(all.first_attempt_latency.count(), 0);
    assert_eq!(all.attempt_duration.count(), 3);
    assert_eq!(all.counters.first_attempts, 1);
}

#[test]
fn old_windows_are_swept_and_the_sum_of_all_time_stays() {
    let mut bed = Bed::new();
    let endpoint = bed.endpoint("org", &["*"]);
    for _ in 0..5 {
        let event = bed.order();
        bed.settle(pair(&event, &endpoint), Verdict::Success);
        bed.apply(vec![Op::FlushStats(FlushStats)]);
        bed.pass_ms(HOUR_MS);
    }
    let before = of_all(&bed, Span::All);
    bed.pass_ms(3 * DAY_MS);
    let none = stormhook_store::UnixMs(0);
    bed.sweep(none, none);
    assert_eq!(of_all(&bed, Span::All), before);
    assert_eq!(of_all(&bed, Span::Day), Window::default());
    bed.expect_whole();
}

//! The sequence tracker against a plain set of numbers, and its bound.

use std::collections::BTreeSet;

use stormhook_verifier::{Observed, RANGES_MAX, RangesError, SequenceTracker};

/// A small generator, so that a failure is replayed by its seed alone (Marsaglia's xorshift).
fn draw(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn random_orders_agree_with_a_set_of_numbers() {
    for seed in 1..=200_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut tracker = SequenceTracker::new();
        let mut seen = BTreeSet::new();
        for _ in 0..120 {
            let n = draw(&mut state) % 60 + 1;
            let highest = seen.last().copied().unwrap_or(0);
            let expected = match n {
                n if n <= highest => Observed::Earlier,
                n if n == highest + 1 => Observed::Next,
                n => Observed::Gap {
                    from: highest + 1,
                    to: n - 1,
                },
            };
            assert_eq!(tracker.observe(n), expected, "seed {seed}, number {n}");
            seen.insert(n);
            let listed: BTreeSet<u64> =
                tracker.ranges().iter().flat_map(|(a, b)| *a..=*b).collect();
            assert_eq!(listed, seen, "seed {seed}, number {n}");
            let missing: BTreeSet<u64> = tracker.missing().flat_map(|(a, b)| a..=b).collect();
            assert!(missing.is_disjoint(&seen));
            assert_eq!(
                missing.len() + seen.len(),
                usize::try_from(tracker.highest()).unwrap()
            );
            assert_eq!(
                tracker.to_string().parse(),
                Ok(tracker.clone()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn the_lowest_gap_is_forgotten_when_one_more_range_would_pass_the_bound() {
    let mut tracker = SequenceTracker::new();
    let bound = u64::try_from(RANGES_MAX).unwrap();
    for n in 1..=bound {
        let _ = tracker.observe(n * 10);
    }
    assert_eq!(tracker.ranges().len(), RANGES_MAX);
    let _ = tracker.observe((bound + 1) * 10);
    assert_eq!(tracker.ranges().len(), RANGES_MAX);
    assert_eq!(tracker.ranges().first(), Some(&(10, 20)));

    let _ = tracker.observe(325);
    assert_eq!(
        tracker.ranges().len(),
        RANGES_MAX,
        "a late number can split a gap too"
    );
    assert_eq!(tracker.ranges().first(), Some(&(10, 30)));
}

#[test]
fn nothing_is_missing_before_a_first_number_that_is_one() {
    let mut tracker = SequenceTracker::new();
    assert_eq!(tracker.missing().count(), 0);
    let _ = tracker.observe(1);
    assert_eq!(tracker.missing().count(), 0);
    let _ = tracker.observe(3);
    assert_eq!(tracker.missing().collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(SequenceTracker::starting_at(9).missing().count(), 0);
    let late: SequenceTracker = "4-9".parse().unwrap();
    assert_eq!(late.missing().collect::<Vec<_>>(), [(1, 3)]);
}

#[test]
fn the_ends_of_the_number_line_are_no_panic() {
    let mut tracker = SequenceTracker::new();
    assert_eq!(tracker.observe(0), Observed::Earlier);
    assert_eq!(
        tracker.observe(u64::MAX),
        Observed::Gap {
            from: 1,
            to: u64::MAX - 1
        }
    );
    assert_eq!(tracker.observe(u64::MAX), Observed::Earlier);
    assert_eq!(tracker.observe(u64::MAX - 1), Observed::Earlier);
    assert_eq!(tracker.ranges(), [(u64::MAX - 1, u64::MAX)]);
    assert_eq!(
        SequenceTracker::starting_at(u64::MAX).observe(u64::MAX),
        Observed::Next
    );
    assert_eq!(SequenceTracker::starting_at(0), SequenceTracker::new());
}

#[test]
fn a_state_that_no_tracker_made_is_refused_with_what_is_wrong() {
    let refused = |text: &str| text.parse::<SequenceTracker>().unwrap_err();
    assert_eq!(refused("1-2,x"), RangesError::NotNumbers { at: 2 });
    assert_eq!(refused("3-2"), RangesError::NotARange { from: 3, to: 2 });
    assert_eq!(refused("0-2"), RangesError::NotARange { from: 0, to: 2 });
    assert_eq!(
        refused("1-5,5-9"),
        RangesError::NotAscending { after: 5, from: 5 }
    );
    assert_eq!(refused(&"1-1,".repeat(1_000_000)), RangesError::TooMany);
    assert_eq!(
        "1-3,4-9".parse::<SequenceTracker>().unwrap().ranges(),
        [(1, 9)]
    );
}

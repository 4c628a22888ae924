//! The sequence tracker: any text as its state, any numbers after it, and a state that can always be read back.

use stormhook_verifier::{Observed, RANGES_MAX, SequenceTracker};

fn hold(tracker: &SequenceTracker) {
    let ranges = tracker.ranges();
    assert!(ranges.len() <= RANGES_MAX);
    assert!(ranges.iter().all(|(from, to)| 0 < *from && from <= to));
    for pair in ranges.windows(2) {
        assert!(pair[0].1 + 1 < pair[1].0, "there is a gap between any two");
    }
    assert_eq!(tracker.missing().count(), {
        let starts_late = ranges.first().is_some_and(|(from, _)| *from > 1);
        ranges.len().saturating_sub(1) + usize::from(starts_late)
    });
    assert_eq!(tracker.to_string().parse().as_ref(), Ok(tracker));
    assert_eq!(
        SequenceTracker::from_ranges(ranges.to_vec()).as_ref(),
        Ok(tracker)
    );
}

/// A line of text, the state; then numbers: a byte is one near the highest, the byte 255 and eight more are any number.
pub(super) fn run(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (text, mut rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut tracker = match core::str::from_utf8(text).map(str::parse) {
        Ok(Ok(tracker)) => tracker,
        _ => SequenceTracker::new(),
    };
    hold(&tracker);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let highest = tracker.highest();
        let mut number = highest.saturating_sub(100);
        number = number.saturating_add(u64::from(*first));
        if let (255, Some((eight, after))) = (*first, rest.split_first_chunk::<8>()) {
            number = u64::from_le_bytes(*eight);
            rest = after;
        }
        match tracker.observe(number) {
            Observed::Next => assert_eq!(number - 1, highest),
            Observed::Earlier => assert!(number <= highest),
            Observed::Gap { from, to } => {
                assert_eq!(from, highest + 1);
                assert_eq!(to, number - 1);
                assert!(from <= to);
            }
        }
        assert_eq!(tracker.highest(), highest.max(number));
        hold(&tracker);
    }
}

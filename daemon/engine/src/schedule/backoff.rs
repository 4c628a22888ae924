//! How long to wait after a claim that the daemon's own trouble prevented. Failures of receivers wait by the retry
//! schedule, which is decided elsewhere.

use stormhook_store::UnixMs;

/// The first wait; each further one in a row is twice as long,
pub(super) const FIRST_MS: u64 = 1_000;
/// but no longer than this.
pub(super) const MOST_MS: u64 = 30_000;
/// After this many doublings the first wait has reached the limit.
const MOST_DOUBLED: u8 = 5;

/// A wait that doubles.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    until: Option<UnixMs>,
    waits: u8,
}

impl Backoff {
    /// Begins the next wait, unless one is in progress: attempts that were in flight together fail together. Returns
    /// when it is over.
    pub(super) fn wait(&mut self, now: UnixMs) -> UnixMs {
        if let Some(until) = self.waiting(now) {
            return until;
        }
        let wait_ms = (FIRST_MS << self.waits.min(MOST_DOUBLED)).min(MOST_MS);
        self.waits = self.waits.saturating_add(1);
        let until = now.plus_ms(wait_ms);
        self.until = Some(until);
        until
    }

    /// Returns when the current wait is over, if there is one.
    pub(super) fn waiting(&self, now: UnixMs) -> Option<UnixMs> {
        // A clock that went back doesn't extend a wait beyond the longest.
        self.until
            .filter(|until| *until > now && until.since_ms(now) <= MOST_MS)
    }

    #[cfg(test)]
    pub(super) fn until(&self) -> Option<UnixMs> {
        self.until
    }

    /// Whether there was trouble, and nothing since has shown that it is over.
    pub(super) fn in_trouble(&self) -> bool {
        self.waits > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_second_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let mut now = UnixMs(5);
        let mut waits = Vec::new();
        for _ in 0..300 {
            let until = backoff.wait(now);
            assert_eq!(backoff.wait(now), until, "one wait at a time");
            waits.push(until.since_ms(now));
            now = until;
        }
        let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
        assert_eq!(waits[..7], expected);
        assert!(waits[7..].iter().all(|ms| *ms == 30_000));
        assert!(backoff.in_trouble() && !Backoff::default().in_trouble());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_prolong_a_wait() {
        let mut backoff = Backoff::default();
        backoff.wait(UnixMs(1_000_000));
        assert_eq!(backoff.waiting(UnixMs(5)), None);
    }
}

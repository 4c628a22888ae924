//! Logging of the daemon's own trouble: one line when it begins and one when it is over, however many attempts are held
//! back.

use stormhook_store::UnixMs;

/// Trouble is over when an attempt is made after none was held back for this long: twice the longest wait between two
/// tries.
const OVER_AFTER_MS: u64 = 60_000;

/// While reads fail, a commit is requested at most this often.
const PROBE_EVERY_MS: u64 = 1_000;

/// One kind of trouble.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Option<UnixMs>,
    probed: Option<UnixMs>,
    held_back: u64,
}

impl Trouble {
    /// An attempt is held back. Returns whether the trouble is new.
    pub(super) fn holds_back(&mut self, now: UnixMs) -> bool {
        self.held_back += 1;
        self.last.replace(now).is_none()
    }

    /// Whether to test now if the trouble persists.
    pub(super) fn wants_probe(&mut self, now: UnixMs) -> bool {
        let recent = |at: UnixMs| now.0.abs_diff(at.0) < PROBE_EVERY_MS;
        let wants = !self.probed.is_some_and(recent);
        if wants {
            self.probed = Some(now);
        }
        wants
    }

    /// An attempt was made. If the trouble is over, returns how many attempts it held back.
    pub(super) fn is_over(&mut self, now: UnixMs) -> Option<u64> {
        let last = self.last?;
        if now.0.abs_diff(last.0) < OVER_AFTER_MS {
            return None;
        }
        self.last = None;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_once_and_over_once_it_is_long_past() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.is_over(UnixMs(0)), None);
        // Some attempts are made meanwhile.
        for n in 0..10 {
            let now = UnixMs(n * 30_000);
            assert_eq!(trouble.holds_back(now), n == 0);
            assert_eq!(trouble.is_over(now.plus_ms(29_999)), None);
        }
        let last = UnixMs(9 * 30_000);
        assert_eq!(trouble.is_over(last.plus_ms(OVER_AFTER_MS)), Some(10));
        assert_eq!(trouble.is_over(last.plus_ms(OVER_AFTER_MS)), None);
        assert!(trouble.holds_back(last.plus_ms(OVER_AFTER_MS)));
    }

    #[test]
    fn however_many_attempts_are_held_back_the_trouble_is_probed_once_a_second() {
        let mut trouble = Trouble::default();
        let probes = (0..10_000).filter(|ms| trouble.wants_probe(UnixMs(*ms)));
        assert_eq!(probes.count(), 10);
    }
}

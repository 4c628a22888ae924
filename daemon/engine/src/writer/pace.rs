//! The time between the starts of commits: long enough that many callers share one commit, and that repair data of a
//! large file stays within its rate; none when callers are few (docs/adr/0002-group-commit.md).

use std::time::Duration;

/// The next commit starts this much later for each operation of a commit, so that near saturation commits grow instead
/// of multiplying,
const APART_PER_OP: Duration = Duration::from_micros(25);
/// but no later than this.
const APART_MOST: Duration = Duration::from_millis(3);
/// If this many commits in a row stay below this size although the writer waited the full time, callers are few and
/// each waits for its answer: the next commits start immediately.
const FEW_OPS: usize = 144;
const FEW_IN_A_ROW: u32 = 4;
/// After this many of those it waits once more, to see whether there are more callers now.
const COMMITS_AT_ONCE: u32 = 32;
/// `quick_repair` writes about this much per commit for each GiB of file (docs/adr/0003-quick-repair.md).
const REPAIR_BYTES_PER_GIB: u64 = 128 << 10;
/// Commits of a large file are spaced to keep that below this much per second.
const REPAIR_BYTES_PER_SECOND: u64 = 20_000_000;

/// Whether commits wait for more operations. With many callers, fewer and larger commits take less work for each; with few
/// callers, waiting only delays their answers.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How many commits start without waiting before the next wait.
    at_once: u32,
    /// How many commits in a row waited and stayed small.
    few: u32,
}

impl Pace {
    /// Returns how long after the start of a commit of `ops` operations the next one starts.
    pub(super) fn apart(&mut self, ops: usize) -> Duration {
        if let Some(left) = self.at_once.checked_sub(1) {
            self.at_once = left;
            return Duration::ZERO;
        }
        let ops = u32::try_from(ops).unwrap_or(u32::MAX);
        APART_PER_OP.saturating_mul(ops).min(APART_MOST)
    }

    /// Records how many operations were queued after waiting that long.
    pub(super) fn waited(&mut self, apart: Duration, queued: usize) {
        if apart < APART_MOST {
            return;
        }
        self.few = if queued < FEW_OPS { self.few + 1 } else { 0 };
        if self.few >= FEW_IN_A_ROW {
            self.few = FEW_IN_A_ROW - 1;
            self.at_once = COMMITS_AT_ONCE;
        }
    }
}

/// Returns how long after the start of a commit the next one starts in a file of this length, in bytes.
pub(super) fn repair(file_bytes: u64) -> Duration {
    let bytes = (file_bytes >> 20) * REPAIR_BYTES_PER_GIB / 1024;
    Duration::from_micros(bytes.saturating_mul(1_000_000) / REPAIR_BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_wait_for_many_callers_and_not_for_few() {
        let mut pace = Pace::default();
        assert_eq!(pace.apart(2), Duration::from_micros(50));
        // Many callers, sometimes fewer: commits keep waiting.
        for queued in [500, 100, 100, 100, 500, 100, 100] {
            assert_eq!(pace.apart(500), APART_MOST);
            pace.waited(APART_MOST, queued);
        }
        pace.waited(APART_MOST, 500);
        for _ in 0..FEW_IN_A_ROW {
            assert_eq!(pace.apart(128), APART_MOST);
            pace.waited(APART_MOST, 128);
        }
        // Few callers: commits start immediately, with one wait in between to check again.
        for _ in 0..2 {
            for _ in 0..COMMITS_AT_ONCE {
                assert_eq!(pace.apart(128), Duration::ZERO);
            }
            assert_eq!(pace.apart(128), APART_MOST);
            // A short wait tells nothing about the callers.
            pace.waited(Duration::from_millis(1), 20);
            assert_eq!(pace.apart(128), APART_MOST);
            pace.waited(APART_MOST, 128);
        }
    }
}

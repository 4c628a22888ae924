//! Counts the invalid tokens of each address, so that guessing is slow and one that guesses doesn't slow down others.
//! A valid token is never counted and never refused.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How many invalid tokens of one source are answered as such within a window; further ones are told to wait.
pub(super) const FAILURES_OF_ONE: u32 = 10;
/// The same for all sources: above what a few faulty clients cause, and little work for the daemon.
const FAILURES_OF_ALL: u32 = 1_000;
/// How many sources are remembered. Beyond that the oldest is forgotten; [`FAILURES_OF_ALL`] still counts it.
const SOURCES: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(1);

/// Whom a failure is counted for: an IPv4 address, or the /64 of an IPv6 address, which usually is one site (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What to do about an invalid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Say that it is invalid.
    Invalid,
    /// Say that there were too many: the first time in this window, which is worth a line in the log.
    FirstTooMany,
    /// Say that there were too many.
    TooMany,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Duration,
    failures: u32,
}

impl Count {
    fn starting(since: Duration) -> Self {
        Self { since, failures: 0 }
    }

    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= WINDOW
    }

    /// Counts one more and judges it.
    fn one_more(&mut self, most: u32) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        match self.failures.saturating_sub(most) {
            0 => Verdict::Invalid,
            1 => Verdict::FirstTooMany,
            _ => Verdict::TooMany,
        }
    }
}

/// See the module. Times are those since an arbitrary moment.
#[derive(Debug)]
pub(super) struct Failures {
    of_all: Count,
    by_source: HashMap<Source, Count>,
    /// The sources by the start of their window, oldest first: each once.
    oldest: VecDeque<Source>,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            of_all: Count::starting(Duration::ZERO),
            by_source: HashMap::new(),
            oldest: VecDeque::new(),
        }
    }
}

impl Failures {
    /// Counts an invalid token.
    pub(super) fn note(&mut self, source: Source, now: Duration) -> Verdict {
        self.forget(now);
        if self.of_all.is_over(now) {
            self.of_all = Count::starting(now);
        }
        let of_all = self.of_all.one_more(FAILURES_OF_ALL);
        let oldest = &mut self.oldest;
        let count = self.by_source.entry(source).or_insert_with(|| {
            oldest.push_back(source);
            Count::starting(now)
        });
        let of_one = count.one_more(FAILURES_OF_ONE);
        if of_one == Verdict::Invalid {
            of_all
        } else {
            of_one
        }
    }

    /// Forgets the sources whose window is over, and the oldest one if there is no room for another.
    fn forget(&mut self, now: Duration) {
        while let Some(source) = self.oldest.front() {
            let is_over = self.by_source.get(source).is_none_or(|c| c.is_over(now));
            if !is_over && self.oldest.len() < SOURCES {
                return;
            }
            if let Some(source) = self.oldest.pop_front() {
                self.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().unwrap())
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn one_address_is_told_to_wait_and_another_is_not() {
        let mut failures = Failures::default();
        for n in 0..FAILURES_OF_ONE {
            let verdict = failures.note(source("192.0.2.1"), NOW);
            assert_eq!(verdict, Verdict::Invalid, "{n}");
        }
        let mut note = |text| failures.note(source(text), NOW);
        assert_eq!(note("192.0.2.1"), Verdict::FirstTooMany);
        assert_eq!(note("192.0.2.1"), Verdict::TooMany);
        assert_eq!(note("192.0.2.2"), Verdict::Invalid);
    }

    #[test]
    fn a_window_ends_a_second_after_its_first_failure() {
        let mut failures = Failures::default();
        for _ in 0..=FAILURES_OF_ONE {
            failures.note(source("192.0.2.1"), NOW);
        }
        let just_before = NOW + WINDOW - Duration::from_nanos(1);
        let verdict = failures.note(source("192.0.2.1"), just_before);
        assert_eq!(verdict, Verdict::TooMany);
        let verdict = failures.note(source("192.0.2.1"), NOW + WINDOW);
        assert_eq!(verdict, Verdict::Invalid);
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_network_of_64_bits() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            assert_eq!(source(one) == source(other), same, "{one} {other}");
        }
    }

    #[test]
    fn many_sources_take_bounded_memory_and_are_limited_together() {
        let mut failures = Failures::default();
        let nth = |n: u32| Source::from(IpAddr::from(n.to_be_bytes()));
        let mut invalid = 0;
        for n in 0..3 * u32::try_from(SOURCES).unwrap() {
            let verdict = failures.note(nth(n), NOW);
            invalid += u32::from(verdict == Verdict::Invalid);
            assert!(failures.by_source.len() <= SOURCES);
            assert_eq!(failures.by_source.len(), failures.oldest.len());
        }
        assert_eq!(invalid, FAILURES_OF_ALL);
        let verdict = failures.note(nth(0), NOW + WINDOW);
        assert_eq!(verdict, Verdict::Invalid);
        assert_eq!(failures.by_source.len(), 1, "windows that are over go");
    }
}

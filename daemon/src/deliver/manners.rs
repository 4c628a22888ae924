//! Remembers origins whose connections need care: those that silently close reused connections, and those that asked
//! for HTTP/1.1. There are few. The memory is bounded; anything forgotten is detected again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many origins are remembered.
const MAX_ORIGINS: usize = 1_024;
/// This many silent closes within `WITHIN` are a habit.
const HABIT: u32 = 2;
const WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long an origin with the habit gets a new connection for each attempt.
const FRESH: Duration = Duration::from_secs(60);
/// How long an origin that asked for HTTP/1.1 is not offered HTTP/2.
const HTTP1: Duration = Duration::from_secs(60 * 60);

type Origin = Arc<str>;

#[derive(Default)]
struct Manner {
    silent_ends: u32,
    /// When the count started.
    since: Option<Instant>,
    fresh_until: Option<Instant>,
    http1_until: Option<Instant>,
}

impl Manner {
    /// Returns when everything remembered expires.
    fn ends(&self) -> Option<Instant> {
        let counted = self.since.map(|since| since + WITHIN);
        counted.max(self.fresh_until).max(self.http1_until)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Manners {
    by_origin: HashMap<Origin, Manner>,
}

impl Manners {
    /// Records that a reused connection ended before the first byte of a response.
    pub(super) fn ended_silently(&mut self, origin: &Origin, now: Instant) {
        let manner = self.of(origin, now);
        if manner.since.is_none_or(|since| now >= since + WITHIN) {
            manner.silent_ends = 0;
            manner.since = Some(now);
        }
        manner.silent_ends = manner.silent_ends.saturating_add(1);
        if manner.silent_ends >= HABIT {
            manner.fresh_until = Some(now + FRESH);
        }
    }

    /// Records that the receiver asked for HTTP/1.1.
    pub(super) fn wants_http1(&mut self, origin: &Origin, now: Instant) {
        self.of(origin, now).http1_until = Some(now + HTTP1);
    }

    /// Whether an idle connection to the origin must not be reused.
    pub(super) fn needs_fresh(&self, origin: &Origin, now: Instant) -> bool {
        let manner = self.by_origin.get(origin);
        manner.is_some_and(|manner| manner.fresh_until.is_some_and(|until| now < until))
    }

    /// Whether the origin should be offered HTTP/1.1 only.
    pub(super) fn needs_http1(&self, origin: &Origin, now: Instant) -> bool {
        let manner = self.by_origin.get(origin);
        manner.is_some_and(|manner| manner.http1_until.is_some_and(|until| now < until))
    }

    fn of(&mut self, origin: &Origin, now: Instant) -> &mut Manner {
        if self.by_origin.len() >= MAX_ORIGINS && !self.by_origin.contains_key(origin) {
            self.make_room(now);
        }
        self.by_origin.entry(origin.clone()).or_default()
    }

    fn make_room(&mut self, now: Instant) {
        self.by_origin
            .retain(|_, manner| manner.ends().is_some_and(|end| now < end));
        if self.by_origin.len() < MAX_ORIGINS {
            return;
        }
        let first = self.by_origin.iter().min_by_key(|(_, m)| m.ends());
        if let Some(origin) = first.map(|(origin, _)| origin.clone()) {
            self.by_origin.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(n: usize) -> Origin {
        format!("http://{n}.test:80").into()
    }

    fn now() -> Instant {
        stormhook_engine::clock::deadline(Duration::ZERO)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_closes_twice_gets_fresh_connections_for_a_minute_and_at_the_next_time_again() {
        let (mut manners, one, start) = (Manners::default(), origin(1), now());
        manners.ended_silently(&one, start);
        assert!(!manners.needs_fresh(&one, start));
        manners.ended_silently(&one, start + SECOND);
        assert!(manners.needs_fresh(&one, start + 60 * SECOND));
        assert!(!manners.needs_fresh(&origin(2), start + SECOND));
        assert!(!manners.needs_fresh(&one, start + 61 * SECOND));
        manners.ended_silently(&one, start + 62 * SECOND);
        assert!(manners.needs_fresh(&one, start + 63 * SECOND));
    }

    #[test]
    fn two_ends_far_apart_are_no_habit() {
        let (mut manners, one, start) = (Manners::default(), origin(1), now());
        for n in 0..5 {
            let at = start + n * WITHIN;
            manners.ended_silently(&one, at);
            assert!(!manners.needs_fresh(&one, at));
        }
    }

    #[test]
    fn who_asked_for_http1_is_offered_http2_again_after_an_hour() {
        let (mut manners, one, start) = (Manners::default(), origin(1), now());
        manners.wants_http1(&one, start);
        assert!(manners.needs_http1(&one, start + 3_599 * SECOND));
        assert!(!manners.needs_http1(&one, start + 3_600 * SECOND));
        assert!(!manners.needs_http1(&origin(2), start));
        assert!(!manners.needs_fresh(&one, start));
    }

    #[test]
    fn no_more_origins_are_remembered_than_the_bound() {
        let (mut manners, start) = (Manners::default(), now());
        for n in 0..3 * MAX_ORIGINS {
            let at = start + Duration::from_millis(n as u64);
            manners.wants_http1(&origin(n), at);
            assert!(manners.by_origin.len() <= MAX_ORIGINS);
            assert!(manners.needs_http1(&origin(n), at));
        }
        let later = start + 2 * HTTP1;
        manners.ended_silently(&origin(0), later);
        assert_eq!(manners.by_origin.len(), 1, "old entries are removed first");
    }
}

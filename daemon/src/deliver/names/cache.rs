//! The cache of names: their last answer, whether they answer quickly, and which are being looked up. Bounded.

use super::{Addresses, Flight, Progress, Unresolved};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// The maximum number of cached names.
const MAX_NAMES: usize = 8_192;

/// How a name's look-ups behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Not known yet.
    New,
    /// The last one was answered quickly.
    Known,
    /// The last one was not answered quickly.
    Slow,
}

#[derive(Default)]
struct Entry {
    class: Option<Class>,
    answer: Option<(Result<Addresses, Unresolved>, Instant)>,
    flight: Weak<Flight>,
    /// When it was last used, as a count of uses.
    used: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Cache {
    names: HashMap<Arc<str>, Entry>,
    uses: u64,
}

impl Cache {
    /// Returns the answer that is still valid.
    pub(super) fn kept(
        &mut self,
        name: &str,
        now: Instant,
    ) -> Option<Result<Addresses, Unresolved>> {
        self.uses += 1;
        let entry = self.names.get_mut(name)?;
        entry.used = self.uses;
        let (result, until) = entry.answer.as_ref()?;
        (now < *until).then(|| result.clone())
    }

    /// Returns the look-up in progress.
    pub(super) fn flight(&self, name: &str) -> Option<Arc<Flight>> {
        let flight = self.names.get(name)?.flight.upgrade()?;
        let is_over = matches!(*flight.0.borrow(), Progress::Done(_));
        (!is_over).then_some(flight)
    }

    /// Records the start of a look-up and returns its class.
    pub(super) fn start(&mut self, name: &Arc<str>, flight: &Arc<Flight>) -> Class {
        if !self.names.contains_key(name) && self.names.len() >= MAX_NAMES {
            self.make_room();
        }
        self.uses += 1;
        let entry = self.names.entry(name.clone()).or_default();
        entry.flight = Arc::downgrade(flight);
        entry.used = self.uses;
        entry.class.unwrap_or(Class::New)
    }

    /// Records the end of a look-up.
    pub(super) fn landed(
        &mut self,
        name: &str,
        class: Class,
        result: Result<Addresses, Unresolved>,
        until: Instant,
    ) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.class = Some(class);
            entry.answer = Some((result, until));
        }
    }

    /// Records that no attempt waits for a look-up any more.
    pub(super) fn abandoned(&mut self, name: &str, class: Option<Class>) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.class = class.or(entry.class);
        }
    }

    /// Forgets the answers, which came from other servers.
    pub(super) fn forget_answers(&mut self) {
        for entry in self.names.values_mut() {
            entry.answer = None;
        }
    }

    /// Forgets the least recently used eighth. Names that are being looked up stay.
    fn make_room(&mut self) {
        let mut uses: Vec<u64> = self.names.values().map(|entry| entry.used).collect();
        let eighth = uses.len() / 8;
        let (_, bound, _) = uses.select_nth_unstable(eighth);
        let bound = *bound;
        self.names
            .retain(|_, entry| entry.used > bound || entry.flight.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use stormhook_engine::clock;

    fn flight() -> Arc<Flight> {
        let (_, progress) = tokio::sync::watch::channel(Progress::Waiting);
        Arc::new(Flight(progress))
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_names_are_kept_than_the_bound_and_those_used_last_stay() {
        let mut cache = Cache::default();
        let now = clock::deadline(Duration::ZERO);
        let until = now + Duration::from_secs(60);
        let healthy: Arc<str> = "healthy.test".into();
        let waits = flight();
        let waiting: Arc<str> = "waiting.test".into();
        cache.start(&waiting, &waits);
        cache.start(&healthy, &flight());
        cache.landed(&healthy, Class::Known, Ok(Arc::new([])), until);
        for n in 0..3 * MAX_NAMES {
            let name: Arc<str> = format!("{n}.test").into();
            assert_eq!(cache.start(&name, &flight()), Class::New);
            cache.landed(&name, Class::Slow, Ok(Arc::new([])), until);
            assert!(cache.kept(&healthy, now).is_some(), "after {n} others");
            assert!(cache.names.len() <= MAX_NAMES, "{}", cache.names.len());
        }
        assert_eq!(cache.start(&healthy, &flight()), Class::Known);
        assert!(cache.flight(&waiting).is_some());
        assert!(cache.kept("0.test", now).is_none(), "forgotten");
    }
}

//! Slots for look-ups, by class. Names whose last look-up was answered quickly have slots of their own. The others
//! share a number of slots: names that were not answered may hold only part of these, and so may unknown names until
//! they prove slow. So a thousand dead names leave slots for each healthy one.

use super::cache::Class;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For names that were last answered quickly. As many as there are attempts in progress by default.
const KNOWN: usize = 512;
/// For all other names together. Each uses some sockets.
const OTHERS: usize = 128;
/// Of these, for names that were last not answered.
const SLOW: usize = 48;
/// Of these, for unknown names whose look-up is younger than [`super::SLOW_AFTER`].
const YOUNG: usize = 64;

/// The slots.
pub(super) struct Places {
    known: Arc<Semaphore>,
    others: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    young: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            known: semaphore(KNOWN),
            others: semaphore(OTHERS),
            slow: semaphore(SLOW),
            young: semaphore(YOUNG),
        }
    }
}

/// One slot, held until it is dropped.
pub(super) struct Place {
    own: Option<OwnedSemaphorePermit>,
    shared: Option<OwnedSemaphorePermit>,
    class: Class,
    others: Arc<Semaphore>,
}

impl Places {
    /// Waits for a slot, in order of arrival within a class.
    pub(super) async fn take(&self, class: Class) -> Place {
        let own = match class {
            Class::Known => &self.known,
            Class::Slow => &self.slow,
            Class::New => &self.young,
        };
        // Never closed: a permit always arrives.
        let own = Arc::clone(own).acquire_owned().await.ok();
        let shared = match class {
            Class::Known => None,
            Class::Slow | Class::New => Arc::clone(&self.others).acquire_owned().await.ok(),
        };
        let others = Arc::clone(&self.others);
        Place {
            own,
            shared,
            class,
            others,
        }
    }
}

impl Place {
    /// Marks a look-up as slower than those of most names.
    pub(super) fn grow(&mut self) {
        match self.class {
            Class::Slow => {}
            Class::New => self.own = None,
            Class::Known => {
                // If the others have no slot left, it keeps its own.
                self.shared = Arc::clone(&self.others).try_acquire_owned().ok();
                if self.shared.is_some() {
                    self.own = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn now(places: &Places, class: Class) -> Option<Place> {
        places.take(class).now_or_never()
    }

    fn all(places: &Places, class: Class) -> Vec<Place> {
        std::iter::from_fn(|| now(places, class))
            .take(10_000)
            .collect()
    }

    #[test]
    fn names_that_nobody_answers_for_leave_places_to_all_others() {
        let places = Places::default();
        let slow = all(&places, Class::Slow);
        assert_eq!(slow.len(), SLOW);
        assert_eq!(all(&places, Class::New).len(), YOUNG);
        assert_eq!(all(&places, Class::Known).len(), KNOWN);
    }

    #[test]
    fn unknown_names_that_hang_make_room_for_others_and_leave_the_known_alone() {
        let places = Places::default();
        let mut hanging = Vec::new();
        for expected in [YOUNG, OTHERS - YOUNG, 0] {
            let mut young = all(&places, Class::New);
            assert_eq!(young.len(), expected);
            young.iter_mut().for_each(Place::grow);
            hanging.extend(young);
        }
        assert_eq!(all(&places, Class::Known).len(), KNOWN);
        assert!(now(&places, Class::Slow).is_none());
        hanging.pop();
        assert!(now(&places, Class::Slow).is_some(), "one is free again");
    }

    #[test]
    fn known_names_that_begin_to_hang_make_room_for_those_that_are_answered() {
        let places = Places::default();
        let mut known = all(&places, Class::Known);
        assert!(now(&places, Class::Known).is_none());
        known.iter_mut().for_each(Place::grow);
        assert_eq!(all(&places, Class::Known).len(), OTHERS);
    }
}

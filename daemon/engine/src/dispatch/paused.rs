//! Endpoints to which no attempt starts: another process may still send to them, or will. Pure.
//!
//! A shard may come, go and come again while an earlier rest has not ended, so the end of a rest ends that rest alone.

use std::collections::BTreeMap;
use stormhook_store::Slot;
use tokio::time::Instant;

/// Why nothing is sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// What another process sent may be on the wire until then.
    Rests(Instant),
    /// Another process delivers to it from now on.
    Released,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Paused(BTreeMap<Slot, Pause>);

impl Paused {
    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.0.contains_key(&slot)
    }

    /// Nothing is sent to an endpoint that was gained until this moment.
    pub(super) fn rest(&mut self, slot: Slot, until: Instant) {
        self.0.insert(slot, Pause::Rests(until));
    }

    /// Ends the rest of an endpoint that lasts until this moment. Returns false if there is another pause, or none.
    pub(super) fn end_rest(&mut self, slot: Slot, until: Instant) -> bool {
        let ends = self.0.get(&slot) == Some(&Pause::Rests(until));
        if ends {
            self.0.remove(&slot);
        }
        ends
    }

    /// Nothing is sent to an endpoint any more, until it is lost.
    pub(super) fn release(&mut self, slot: Slot) {
        self.0.insert(slot, Pause::Released);
    }

    /// An endpoint is lost. Whoever gains it again decides anew.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::deadline;
    use std::time::Duration;

    const SLOT: Slot = Slot(7);

    fn in_seconds(seconds: u64) -> Instant {
        deadline(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_rest_ends_no_later_rest() {
        let mut paused = Paused::default();
        let (first, second) = (in_seconds(10), in_seconds(15));
        paused.rest(SLOT, first);
        paused.forget(SLOT);
        paused.rest(SLOT, second);
        assert!(!paused.end_rest(SLOT, first));
        assert!(paused.contains(SLOT));
        assert!(paused.end_rest(SLOT, second));
        assert!(!paused.contains(SLOT));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_rest_starts_nothing_while_the_endpoint_is_given() {
        let mut paused = Paused::default();
        let until = in_seconds(10);
        paused.rest(SLOT, until);
        paused.release(SLOT);
        assert!(!paused.end_rest(SLOT, until));
        assert!(paused.contains(SLOT));
        paused.forget(SLOT);
        assert!(!paused.contains(SLOT));
    }
}

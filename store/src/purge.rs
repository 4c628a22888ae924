//! Purges: what an organization's events hold is removed for good. A purge takes effect with its commit, since readers
//! apply it to what they read; the rows are rewritten afterwards, a bounded number at a time.

use crate::event::Event;
use crate::ids::{EventId, Slot, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many events a purge may name.
pub const PURGED_EVENTS: usize = 100;
/// How many purges may be in progress. A further one is refused until one is finished.
pub(crate) const PURGES: usize = 1_000;

/// One purge in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// The organization.
    pub organization: String,
    /// Which of its events.
    pub scope: PurgeScope,
    /// What is removed.
    pub effect: PurgeEffect,
    /// When it was made.
    pub at: UnixMs,
    /// Its number in the store.
    #[serde(skip)]
    pub number: u64,
}

/// Which events of the organization a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PurgeScope {
    /// Those before this one.
    Before(EventId),
    /// These, in order.
    Events(Vec<EventId>),
}

/// What a purge removes, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PurgeEffect {
    /// The data of the events, and what receivers answered. Open deliveries end.
    Data,
    /// The events with their deliveries; at the end the deleted endpoints and the revoked API keys of the organization.
    /// An event's row keeps its id alone until its retention is over, so that a missing row is still damage.
    All,
}

impl PurgeScope {
    /// Whether it includes an event.
    pub fn includes(&self, event: EventId) -> bool {
        match self {
            Self::Before(until) => event < *until,
            Self::Events(events) => events.binary_search(&event).is_ok(),
        }
    }
}

impl PurgeEffect {
    /// Returns what readers see of an event; `None` if it is removed.
    pub fn shows(self, event: &Event) -> Option<Event> {
        (self == Self::Data).then(|| Event {
            data: None,
            ..event.clone()
        })
    }

    /// Returns what is stored of an event.
    pub fn leaves(self, event: &Event) -> Event {
        self.shows(event)
            .unwrap_or_else(|| Event::rest_of(event.id))
    }
}

/// The purges in progress.
#[derive(Clone, Debug, Default)]
pub struct Purges {
    by_organization: BTreeMap<String, Vec<Purge>>,
}

impl Purges {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_organization.is_empty()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.by_organization.values().map(Vec::len).sum()
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Purge> {
        self.by_organization.values().flatten()
    }

    /// Returns those of an organization.
    pub fn of(&self, organization: &str) -> &[Purge] {
        let of = self.by_organization.get(organization);
        of.map_or(&[], Vec::as_slice)
    }

    /// Adds one.
    pub fn insert(&mut self, purge: Purge) {
        let of = self.by_organization.entry(purge.organization.clone());
        of.or_default().push(purge);
    }

    /// Removes one that is finished.
    pub fn remove(&mut self, organization: &str, number: u64) {
        if let Some(of) = self.by_organization.get_mut(organization) {
            of.retain(|purge| purge.number != number);
            if of.is_empty() {
                self.by_organization.remove(organization);
            }
        }
    }

    /// Keeps those of these organizations.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.by_organization
            .retain(|organization, _| keep(organization));
    }

    /// Returns what is removed of an event; `None` if nothing is.
    pub fn effect_on(&self, organization: &str, event: EventId) -> Option<PurgeEffect> {
        let of = self.of(organization).iter();
        let effects = of.filter(|purge| purge.scope.includes(event));
        effects.map(|purge| purge.effect).max()
    }

    /// Whether all that an organization had up to a time is removed.
    pub fn removes(&self, organization: &str, created_at: UnixMs) -> bool {
        let of = self.of(organization).iter();
        let mut all = of.filter(|purge| purge.effect == PurgeEffect::All);
        all.any(|purge| created_at <= purge.at)
    }

    /// Returns an event as readers see it; `None` if it is removed.
    pub fn shown(&self, event: Arc<Event>) -> Option<Arc<Event>> {
        if event.is_removed() {
            return None;
        }
        match self.effect_on(&event.organization, event.id) {
            None => Some(event),
            Some(effect) => effect.shows(&event).map(Arc::new),
        }
    }
}

/// What a purge still has to write, as a step of a walk found it.
#[derive(Clone, Debug, Default)]
pub struct PurgeFound {
    /// Events, with the endpoints that have a delivery of each.
    pub events: Vec<(EventId, Vec<Slot>)>,
    /// After which event the walk goes on; `None` at the end.
    pub next: Option<EventId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Timestamp;

    fn event(organization: &str, id: u128) -> Arc<Event> {
        Arc::new(Event {
            id: EventId(id),
            organization: organization.to_owned(),
            event_type: "order.created".to_owned(),
            timestamp: Timestamp(0),
            timestamp_text: None,
            idempotency_key: Some("k".to_owned()),
            deliveries: 1,
            data: Some(b"{}".to_vec()),
        })
    }

    fn purge(organization: &str, scope: PurgeScope, effect: PurgeEffect, number: u64) -> Purge {
        Purge {
            organization: organization.to_owned(),
            scope,
            effect,
            at: UnixMs(5),
            number,
        }
    }

    fn data_of(purges: &Purges, organization: &str, id: u128) -> Option<bool> {
        let shown = purges.shown(event(organization, id))?;
        Some(shown.data.is_some())
    }

    #[test]
    fn a_purge_hides_the_data_of_its_events_alone_until_it_is_removed() {
        let mut purges = Purges::default();
        purges.insert(purge(
            "a",
            PurgeScope::Before(EventId(10)),
            PurgeEffect::Data,
            1,
        ));
        purges.insert(purge(
            "a",
            PurgeScope::Events(vec![EventId(12), EventId(20)]),
            PurgeEffect::Data,
            2,
        ));
        let cases = [
            ("a", 9, false),
            ("a", 10, true),
            ("a", 12, false),
            ("a", 13, true),
            ("a", 20, false),
            ("b", 9, true),
        ];
        for (organization, id, has_data) in cases {
            let found = data_of(&purges, organization, id);
            assert_eq!(found, Some(has_data), "{organization} {id}");
        }
        purges.remove("a", 1);
        assert_eq!(data_of(&purges, "a", 9), Some(true));
        purges.remove("a", 2);
        assert!(purges.is_empty());
    }

    #[test]
    fn a_removed_organization_shows_no_event_and_what_it_made_since_stays() {
        let mut purges = Purges::default();
        let scope = PurgeScope::Before(EventId(10));
        purges.insert(purge("a", scope.clone(), PurgeEffect::All, 1));
        // The lesser effect of another purge takes nothing back.
        purges.insert(purge("a", scope, PurgeEffect::Data, 2));
        assert_eq!(data_of(&purges, "a", 9), None);
        assert_eq!(data_of(&purges, "a", 10), Some(true));
        assert!(purges.removes("a", UnixMs(5)));
        assert!(!purges.removes("a", UnixMs(6)));
        assert!(!purges.removes("b", UnixMs(5)));
    }

    #[test]
    fn the_rest_of_a_removed_event_is_never_shown() {
        let rest = PurgeEffect::All.leaves(&event("a", 9));
        assert_eq!(rest.id, EventId(9));
        assert_eq!(Purges::default().shown(Arc::new(rest)), None);
    }
}

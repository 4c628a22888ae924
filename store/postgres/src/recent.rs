//! Events that were accepted last: their first attempts need no question.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use stormhook_store::{Event, EventId};

/// How many bytes of events are kept.
const BYTES: usize = 16 << 20;
/// The size of an event beyond its data, in bytes.
const EVENT_BYTES: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    events: HashMap<EventId, Arc<Event>>,
    /// Oldest first.
    order: VecDeque<EventId>,
    bytes: usize,
}

fn bytes_of(event: &Event) -> usize {
    EVENT_BYTES + event.data.as_ref().map_or(0, Vec::len)
}

impl Recent {
    /// Returns an event, if it is here.
    pub(crate) fn find(&self, id: EventId) -> Option<Arc<Event>> {
        self.events.get(&id).cloned()
    }

    /// Removes an event.
    pub(crate) fn remove(&mut self, id: EventId) {
        if let Some(event) = self.events.remove(&id) {
            self.bytes = self.bytes.saturating_sub(bytes_of(&event));
        }
    }

    /// Adds an event that is durable. The oldest make room for it.
    pub(crate) fn add(&mut self, event: &Arc<Event>) {
        if event.deliveries == 0 {
            return;
        }
        self.bytes += bytes_of(event);
        self.order.push_back(event.id);
        self.events.insert(event.id, Arc::clone(event));
        while self.bytes > BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormhook_store::Timestamp;

    fn event(id: u128, bytes: usize) -> Arc<Event> {
        Arc::new(Event {
            id: EventId(id),
            organization: "org".to_owned(),
            event_type: "order.created".to_owned(),
            timestamp: Timestamp(0),
            timestamp_text: None,
            idempotency_key: None,
            deliveries: 1,
            data: Some(vec![0; bytes]),
        })
    }

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let mut recent = Recent::default();
        for id in 0..5 {
            recent.add(&event(id, BYTES / 4));
        }
        let kept: Vec<bool> = (0..5)
            .map(|id| recent.find(EventId(id)).is_some())
            .collect();
        assert_eq!(kept, [false, false, true, true, true]);
        assert!(recent.bytes <= BYTES);
    }
}

//! The demo's own ledger: what was sent, what each receiver got, and whether the two agree. It doesn't rely on the
//! daemon: an event is delivered when a receiver has verified it and answered 200. Times count from the start of the
//! demo.

use std::collections::HashMap;
use std::time::Duration;

/// A receiver, by its index.
pub(crate) type Place = usize;

/// The state of one event at one receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The number of requests.
    pub(crate) requests: u32,
    /// The number of requests answered with 200.
    pub(crate) successes: u32,
    /// When the first success was answered.
    pub(crate) delivered_at: Option<Duration>,
    /// The last status answered.
    pub(crate) last_status: u16,
    /// How many of the first requests are refused on purpose.
    refusals: u32,
}

#[cfg(test)]
impl Entry {
    /// An entry as a test needs it.
    pub(crate) fn of(requests: u32, successes: u32, last_status: u16) -> Self {
        Self {
            requests,
            successes,
            last_status,
            ..Self::default()
        }
    }
}

/// One row of the live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The event's id.
    pub(crate) event: String,
    /// Its type.
    pub(crate) event_type: String,
    /// The receiver.
    pub(crate) place: Place,
    /// The state.
    pub(crate) entry: Entry,
    /// From just before it was sent to the receiver's 200.
    pub(crate) latency: Option<Duration>,
}

/// The totals of one receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// Events it is subscribed to.
    pub(crate) expected: u64,
    /// How many of these arrived.
    pub(crate) delivered: u64,
    /// The number of requests in total.
    pub(crate) requests: u64,
    /// Requests answered with 503 on purpose.
    pub(crate) refused: u64,
    /// Requests with an invalid signature.
    pub(crate) badly_signed: u64,
    /// Requests for an event that had already succeeded here.
    pub(crate) doubled: u64,
    /// Requests for events that were never sent, or not subscribed to.
    pub(crate) unexpected: u64,
}

impl Balance {
    /// Returns the number of expected events that have not arrived.
    pub(crate) fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.delivered)
    }

    /// Whether nothing is missing, duplicated, invalid or unexpected.
    pub(crate) fn is_right(&self) -> bool {
        self.missing() == 0 && self.doubled == 0 && self.badly_signed == 0 && self.unexpected == 0
    }
}

#[derive(Debug, Clone)]
struct Accepted {
    event_type: &'static str,
    sent_at: Duration,
}

/// The ledger.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accepted: HashMap<String, Accepted>,
    order: Vec<String>,
    entries: HashMap<(String, Place), Entry>,
    badly_signed: Vec<u64>,
    doubled: Vec<u64>,
    refused: Vec<u64>,
    requests: Vec<u64>,
    distinct: HashMap<Place, u64>,
}

/// One request as a receiver saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The receiver.
    pub(crate) place: Place,
    /// `webhook-id`.
    pub(crate) event: &'a str,
    /// Whether both signatures are valid.
    pub(crate) signed: bool,
    /// When it arrived.
    pub(crate) at: Duration,
}

impl Ledger {
    /// Returns a ledger for this many receivers.
    pub(crate) fn new(places: usize) -> Self {
        let zeros = vec![0; places];
        Self {
            badly_signed: zeros.clone(),
            doubled: zeros.clone(),
            refused: zeros.clone(),
            requests: zeros,
            ..Self::default()
        }
    }

    /// Records that the daemon accepted this event, which was sent at that time.
    pub(crate) fn accepted(&mut self, event: &str, event_type: &'static str, sent_at: Duration) {
        if self
            .accepted
            .insert(
                event.to_owned(),
                Accepted {
                    event_type,
                    sent_at,
                },
            )
            .is_none()
        {
            self.order.push(event.to_owned());
        }
    }

    /// Records a request and returns the status to answer. One with an invalid signature gets 401; a flaky receiver
    /// answers the first requests of some events with 503.
    pub(crate) fn received(&mut self, seen: Seen<'_>, flaky: bool) -> u16 {
        count(&mut self.requests, seen.place);
        if !seen.signed {
            count(&mut self.badly_signed, seen.place);
            return 401;
        }
        let key = (seen.event.to_owned(), seen.place);
        if !self.entries.contains_key(&key) {
            let distinct = self.distinct.entry(seen.place).or_default();
            *distinct += 1;
            let refusals = if flaky { refusals_of(*distinct) } else { 0 };
            self.entries.insert(
                key.clone(),
                Entry {
                    refusals,
                    ..Entry::default()
                },
            );
        }
        let entry = self.entries.entry(key).or_default();
        entry.requests += 1;
        if entry.successes > 0 {
            count(&mut self.doubled, seen.place);
        } else if entry.requests <= entry.refusals {
            count(&mut self.refused, seen.place);
            entry.last_status = 503;
            return 503;
        }
        entry.successes += 1;
        entry.last_status = 200;
        entry.delivered_at.get_or_insert(seen.at);
        200
    }

    /// Returns the number of accepted events.
    pub(crate) fn events(&self) -> u64 {
        u64::try_from(self.order.len()).unwrap_or(u64::MAX)
    }

    /// Whether every accepted event has arrived everywhere it should.
    pub(crate) fn all_delivered(&self, subscribed: impl Fn(Place, &str) -> bool) -> bool {
        (0..self.requests.len()).all(|place| self.balance(place, &subscribed).missing() == 0)
    }

    /// Returns the totals of one receiver.
    pub(crate) fn balance(
        &self,
        place: Place,
        subscribed: impl Fn(Place, &str) -> bool,
    ) -> Balance {
        let at = |counts: &[u64]| counts.get(place).copied().unwrap_or(0);
        let mut balance = Balance {
            requests: at(&self.requests),
            refused: at(&self.refused),
            badly_signed: at(&self.badly_signed),
            doubled: at(&self.doubled),
            ..Balance::default()
        };
        for (event, accepted) in &self.accepted {
            if subscribed(place, accepted.event_type) {
                balance.expected += 1;
                let entry = self.entries.get(&(event.clone(), place));
                balance.delivered += u64::from(entry.is_some_and(|entry| entry.successes > 0));
            }
        }
        let stray = self.entries.iter().filter(|((event, at), _)| {
            *at == place
                && self
                    .accepted
                    .get(event)
                    .is_none_or(|accepted| !subscribed(place, accepted.event_type))
        });
        balance.unexpected = stray.map(|(_, entry)| u64::from(entry.requests)).sum();
        balance
    }

    /// Returns the rows of the newest events, the newest last, up to a maximum.
    pub(crate) fn newest(
        &self,
        most: usize,
        places: usize,
        subscribed: impl Fn(Place, &str) -> bool,
    ) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for event in self.order.iter().rev() {
            for place in (0..places).rev() {
                let Some(row) = self.row(event, place, &subscribed) else {
                    continue;
                };
                if rows.len() == most {
                    rows.reverse();
                    return rows;
                }
                rows.push(row);
            }
        }
        rows.reverse();
        rows
    }

    /// Returns the row of one event at one receiver, if it is subscribed.
    pub(crate) fn row(
        &self,
        event: &str,
        place: Place,
        subscribed: impl Fn(Place, &str) -> bool,
    ) -> Option<Row> {
        let accepted = self
            .accepted
            .get(event)
            .filter(|accepted| subscribed(place, accepted.event_type))?;
        let entry = self
            .entries
            .get(&(event.to_owned(), place))
            .cloned()
            .unwrap_or_default();
        let latency = entry
            .delivered_at
            .map(|at| at.saturating_sub(accepted.sent_at));
        Some(Row {
            event: event.to_owned(),
            event_type: accepted.event_type.to_owned(),
            place,
            entry,
            latency,
        })
    }
}

/// The flaky receiver refuses every third event once and every ninth twice.
fn refusals_of(distinct: u64) -> u32 {
    match distinct {
        nth if nth.is_multiple_of(9) => 2,
        nth if nth.is_multiple_of(3) => 1,
        _ => 0,
    }
}

fn count(counts: &mut [u64], place: Place) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn seen(place: Place, event: &str) -> Seen<'_> {
        Seen {
            place,
            event,
            signed: true,
            at: at(1_040),
        }
    }

    fn only_orders_at_1(place: Place, event_type: &str) -> bool {
        place == 0 || event_type == "order.created"
    }

    #[test]
    fn what_arrived_once_everywhere_is_right() {
        let mut ledger = Ledger::new(2);
        ledger.accepted("evt_1", "order.created", at(1_000));
        ledger.accepted("evt_2", "inventory.low", at(1_000));
        assert!(!ledger.all_delivered(only_orders_at_1));
        for (place, event) in [(0, "evt_1"), (0, "evt_2"), (1, "evt_1")] {
            assert_eq!(ledger.received(seen(place, event), false), 200);
        }
        assert!(ledger.all_delivered(only_orders_at_1));
        for place in [0, 1] {
            assert!(
                ledger.balance(place, only_orders_at_1).is_right(),
                "{place}"
            );
        }
        assert_eq!(
            ledger.row("evt_1", 1, only_orders_at_1).unwrap().latency,
            Some(Duration::from_millis(40))
        );
        assert_eq!(ledger.row("evt_2", 1, only_orders_at_1), None);
    }

    #[test]
    fn a_missing_a_doubled_a_badly_signed_and_a_stray_delivery_are_each_wrong() {
        let mut ledger = Ledger::new(1);
        ledger.accepted("evt_1", "a", at(0));
        assert_eq!(ledger.balance(0, |_, _| true).missing(), 1);
        assert!(!ledger.balance(0, |_, _| true).is_right());

        ledger.received(seen(0, "evt_1"), false);
        assert!(ledger.balance(0, |_, _| true).is_right());
        ledger.received(seen(0, "evt_1"), false);
        assert_eq!(ledger.balance(0, |_, _| true).doubled, 1);

        let mut ledger = Ledger::new(1);
        assert_eq!(
            ledger.received(
                Seen {
                    signed: false,
                    ..seen(0, "evt_1")
                },
                false
            ),
            401
        );
        assert!(!ledger.balance(0, |_, _| true).is_right());

        let mut ledger = Ledger::new(1);
        ledger.received(seen(0, "evt_9"), false);
        assert_eq!(ledger.balance(0, |_, _| true).unexpected, 1);
        assert!(!ledger.balance(0, |_, _| true).is_right());
    }

    #[test]
    fn a_flaky_receiver_refuses_some_events_first_and_takes_them_then() {
        let mut ledger = Ledger::new(1);
        let mut refused = 0;
        for n in 0..9 {
            let event = format!("evt_{n}");
            ledger.accepted(&event, "a", at(0));
            while ledger.received(seen(0, &event), true) == 503 {
                refused += 1;
            }
        }
        assert_eq!(refused, 4);
        let balance = ledger.balance(0, |_, _| true);
        assert_eq!(
            (balance.refused, balance.requests, balance.doubled),
            (4, 13, 0)
        );
        assert!(balance.is_right());
    }

    #[test]
    fn the_newest_rows_come_last_and_are_bounded() {
        let mut ledger = Ledger::new(2);
        for n in 0..50 {
            ledger.accepted(&format!("evt_{n}"), "a", at(0));
        }
        let rows = ledger.newest(3, 2, |_, _| true);
        let shown: Vec<(&str, Place)> = rows
            .iter()
            .map(|row| (row.event.as_str(), row.place))
            .collect();
        assert_eq!(shown, [("evt_48", 1), ("evt_49", 0), ("evt_49", 1)]);
    }
}

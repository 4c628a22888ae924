//! Damage is set aside with its own reason, and doesn't affect intact data.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::maintenance::EndDamaged;
use stormhook_store::stats::Span;
use stormhook_store::{
    Change, DeliveryId, Done, Endpoint, Event, NextStep, Op, Reason, Replay, Retry, StatsOf,
    Status, UnixMs,
};

/// One endpoint and four deliveries, the first of which has failed once.
struct Four {
    fixture: Fixture,
    endpoint: Arc<Endpoint>,
    events: Vec<Arc<Event>>,
    ids: Vec<DeliveryId>,
}

impl Four {
    fn new() -> Self {
        let mut fixture = Fixture::new();
        let endpoint = fixture.endpoint("org", &["*"]);
        // One commit each, so that each has its own pack.
        let events: Vec<_> = (0..4).map(|_| fixture.order()).collect();
        let ids: Vec<_> = events.iter().map(|event| pair(event, &endpoint)).collect();
        let later = fixture.now.plus_ms(60_000);
        fixture.settle(ids[0], NextStep::RetryAt(later));
        Self {
            fixture,
            endpoint,
            events,
            ids,
        }
    }

    fn damage_pack(&mut self, at: usize) {
        self.fixture
            .damage("packs", &self.events[at].id.0.to_be_bytes());
    }

    fn damage_row(&mut self, at: usize) {
        self.fixture.damage("deliveries", &row_key(self.ids[at]));
    }

    fn damage_due(&mut self, at: usize) {
        let due = self.due(at);
        self.fixture.damage("due", &due_key(due, self.ids[at]));
    }

    fn due(&mut self, at: usize) -> UnixMs {
        let id = self.ids[at];
        let open = self.fixture.open();
        open.iter().find(|w| w.id == id).expect("it waits").due
    }

    fn end(&mut self, at: usize, due: UnixMs) -> (Done, Vec<DeliveryId>) {
        let delivery = self.ids[at];
        let mut applied = self
            .fixture
            .apply(vec![Op::EndDamaged(EndDamaged { delivery, due })]);
        let ended = applied.changes.iter().map(|change| match change {
            Change::Ended(id) => *id,
            other => panic!("{other:?}"),
        });
        let ended = ended.collect();
        (applied.done.pop().unwrap(), ended)
    }

    /// Returns the waiting ones, by their place.
    fn waits(&mut self) -> Vec<usize> {
        let open = self.fixture.open();
        let place = |id| self.ids.iter().position(|known| *known == id).unwrap();
        let mut waits: Vec<_> = open.iter().map(|w| place(w.id)).collect();
        waits.sort_unstable();
        let count = usize::try_from(self.fixture.reader().open_count()).unwrap();
        assert_eq!(count, waits.len());
        waits
    }

    fn expect_one_damage(&self) {
        let damage = self.fixture.reader().check().unwrap().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
    }
}

fn row_key(id: DeliveryId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&id.event.0.to_be_bytes());
    key[16..].copy_from_slice(&id.slot.0.to_be_bytes());
    key
}

fn due_key(due: UnixMs, id: DeliveryId) -> [u8; 28] {
    let mut key = [0; 28];
    key[..8].copy_from_slice(&due.0.to_be_bytes());
    key[8..].copy_from_slice(&row_key(id));
    key
}

#[test]
fn a_delivery_whose_event_is_damaged_ends_as_damaged_and_no_attempt_is_recorded_or_counted() {
    let mut four = Four::new();
    let before = four.fixture.delivery(four.ids[0]);
    let state = four.fixture.reader().state(four.endpoint.slot);
    let now = four.fixture.now;
    let stats = |four: &Four| {
        let window = four.fixture.reader().stats(Span::All, now, &StatsOf::All);
        window.unwrap().counters
    };
    let counted = stats(&four);
    four.damage_pack(0);
    let due = four.due(0);
    let (done, ended) = four.end(0, due);
    assert_eq!(ended, [four.ids[0]]);
    let Done::EndDamaged(Some(d)) = done else {
        panic!("{done:?}");
    };
    assert_eq!(
        (d.status, d.reason),
        (Status::Failed, Some(Reason::Damaged))
    );
    assert_eq!((d.due, d.next_attempt_at), (None, None));
    assert_eq!(d.sequence, before.sequence);
    assert_eq!(d.attempts, before.attempts);
    assert_eq!((d.attempts_total, d.attempts_finished, d.round), (1, 1, 1));
    assert_eq!(four.fixture.reader().state(four.endpoint.slot), state);
    assert_eq!(stats(&four), counted);
    assert_eq!(four.waits(), [1, 2, 3]);
    four.fixture.reopen();
    assert_eq!(four.waits(), [1, 2, 3]);
    four.expect_one_damage();
    // It has ended: there is nothing more to end.
    let (done, _) = four.end(0, due);
    assert!(matches!(done, Done::EndDamaged(None)), "{done:?}");
    assert_eq!(four.fixture.delivery(four.ids[0]), *d);
    let settled = four.fixture.settle(four.ids[1], NextStep::Success);
    assert_eq!(settled.status, Status::Success);
}

#[test]
fn what_ended_as_damaged_is_refused_by_name_while_it_cannot_be_read_and_sent_again_once_it_can() {
    let mut four = Four::new();
    let (event, endpoint, id) = (four.events[0].id, four.endpoint.id, four.ids[0]);
    four.damage_pack(0);
    let due = four.due(0);
    four.end(0, due);
    for op in [Op::Retry(Retry(id)), Op::Replay(Replay { event, endpoint })] {
        let done = four.fixture.one(op);
        assert!(matches!(done, Done::Damaged(_)), "{done:?}");
    }
    // Changed back.
    four.damage_pack(0);
    let ended = four.fixture.delivery(id);
    let recover = four.fixture.recover_of(endpoint, false);
    assert_eq!(four.fixture.recover(recover), 0, "a recovery leaves it out");
    assert_eq!(four.fixture.delivery(id), ended);
    four.fixture.work_off();
    assert_eq!(four.fixture.delivery(id), ended);
    let again = four.fixture.delivery_done(Retry(id));
    assert_eq!((again.status, again.reason), (Status::Pending, None));
    assert_eq!(four.waits(), [0, 1, 2, 3]);
    four.fixture.expect_whole();
}

#[test]
fn a_delivery_whose_own_row_is_damaged_waits_no_longer_and_check_names_that_row_alone() {
    let mut four = Four::new();
    four.damage_row(1);
    let due = four.due(1);
    let (done, ended) = four.end(1, due);
    assert!(matches!(done, Done::EndDamaged(None)), "{done:?}");
    assert_eq!(ended, [four.ids[1]]);
    assert_eq!(four.waits(), [0, 2, 3]);
    four.expect_one_damage();
    four.fixture.reopen();
    assert_eq!(four.waits(), [0, 2, 3]);
    four.expect_one_damage();
    let done = four.fixture.one(Op::Retry(Retry(four.ids[1])));
    assert!(matches!(done, Done::Damaged(_)), "{done:?}");
    assert!(four.fixture.reader().bare_delivery(four.ids[1]).is_err());
}

#[test]
fn a_delivery_without_a_row_waits_no_longer() {
    let mut four = Four::new();
    four.fixture.remove("deliveries", &row_key(four.ids[1]));
    let due = four.due(1);
    let (done, ended) = four.end(1, due);
    assert!(matches!(done, Done::EndDamaged(None)), "{done:?}");
    assert_eq!(ended, [four.ids[1]]);
    assert_eq!(four.waits(), [0, 2, 3]);
}

#[test]
fn a_store_starts_though_a_delivery_and_its_row_of_the_due_index_are_both_damaged() {
    let mut four = Four::new();
    let due = four.due(2);
    four.damage_due(2);
    // The delivery's row has its due time.
    assert_eq!((four.due(2), four.waits()), (due, vec![0, 1, 2, 3]));
    four.damage_row(2);
    assert_eq!((four.due(2), four.waits()), (due, vec![0, 1, 2, 3]));
    four.end(2, due);
    assert_eq!(four.waits(), [0, 1, 3]);
    four.fixture.reopen();
    assert_eq!(four.waits(), [0, 1, 3]);
    four.expect_one_damage();
}

#[test]
fn an_event_whose_key_is_known_is_not_accepted_again_when_it_is_missing() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let event = fixture.accept(keyed("org", "k"));
    fixture.remove("packs", &event.id.0.to_be_bytes());
    let done = fixture.one(keyed("org", "k"));
    assert!(matches!(done, Done::Damaged(_)), "{done:?}");
    assert_eq!(fixture.reader().open_count(), 1);
    // Another key is not affected.
    fixture.accept(keyed("org", "other"));
}

#[test]
fn a_key_whose_event_was_swept_is_free_again() {
    let mut fixture = Fixture::with(|options| options.idempotency_ttl_ms = 1_000_000);
    let event = fixture.accept(keyed("org", "k"));
    fixture.pass_ms(10);
    let now = fixture.now;
    fixture.sweep(now, now);
    assert_eq!(fixture.reader().event(event.id).unwrap(), None);
    fixture.accept(keyed("org", "k"));
}

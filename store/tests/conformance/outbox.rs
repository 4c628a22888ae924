//! Events of an outbox: stored once, in their order, whatever is sent again.

use crate::support::*;
use stormhook_store::command::AcceptEmitted;
use stormhook_store::{
    Accepted, Done, EmittedEvent, EventId, NewEvent, NextStep, Op, Refusal, Timestamp, UnixMs,
};

type Decided = Result<Vec<Result<Accepted, Refusal>>, Refusal>;

/// Returns an event that was written to an outbox at this time.
fn emitted(at: UnixMs, n: u128, event: NewEvent) -> EmittedEvent {
    let id = EventId(EventId::first_of(at).0 + n);
    EmittedEvent { id, event }
}

fn of_org(events: &[EmittedEvent]) -> AcceptEmitted {
    AcceptEmitted {
        organization: "org".to_owned(),
        events: events.to_vec(),
    }
}

/// Returns whether each was stored before, or its refusal.
fn replayed(decided: Decided) -> Vec<Result<bool, Refusal>> {
    let decided = decided.expect("the first is decided").into_iter();
    decided.map(|one| one.map(|a| a.replayed)).collect()
}

#[test]
fn events_of_an_outbox_are_stored_once_and_in_the_order_in_which_they_are_taken() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let at = fixture.now;
    fixture.pass_ms(50);
    fixture.order();
    // Their ids are in no order, and lie before the last event's.
    let events = [5, 3, 9].map(|n| emitted(at, n, event("org", "order.created")));
    let twice = vec![
        Op::AcceptEmitted(of_org(&events)),
        Op::AcceptEmitted(of_org(&events)),
    ];
    let mut stored = Vec::new();
    for (done, before) in fixture.apply(twice).done.into_iter().zip([false, true]) {
        let Done::AcceptEmitted(Ok(decided)) = done else {
            panic!("{done:?}");
        };
        for one in decided {
            let Accepted { event, replayed } = one.expect("it is accepted");
            assert_eq!(replayed, before);
            stored.push(event);
        }
    }
    let again = stored.split_off(3);
    assert_eq!(stored, again);
    for (event, sequence) in stored.iter().zip(2..) {
        assert_eq!(fixture.delivery(pair(event, &endpoint)).sequence, sequence);
        assert_eq!(event.timestamp, Timestamp::from(at));
    }
    for _ in 0..2 {
        fixture.reopen();
        let again = fixture.run(of_org(&events));
        assert_eq!(replayed(again), [Ok(true), Ok(true), Ok(true)]);
    }
    assert_eq!(fixture.reader().open_count(), 4);
    assert_eq!(fixture.all_events(&Default::default(), 10).len(), 4);
    fixture.expect_whole();
}

#[test]
fn sequence_numbers_go_on_after_events_of_an_outbox_that_are_older_than_the_last() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let at = fixture.now;
    fixture.order();
    // Long enough for everything that is only in memory to be written.
    fixture.pass_ms(60_000);
    fixture.order();
    let late = [1, 2].map(|n| emitted(at, n, event("org", "order.created")));
    let decided = fixture.run(of_org(&late));
    assert_eq!(replayed(decided), [Ok(false), Ok(false)]);
    fixture.reopen();
    let next = fixture.order();
    assert_eq!(fixture.delivery(pair(&next, &endpoint)).sequence, 5);
    fixture.expect_whole();
}

#[test]
fn an_event_of_an_outbox_obeys_its_key_and_the_others_are_stored() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let first = fixture.accept(keyed("org", "k"));
    let at = fixture.now;
    let other = NewEvent {
        data: b"2".to_vec(),
        ..keyed("org", "k")
    };
    let events = [
        emitted(at, 1, keyed("org", "k")),
        emitted(at, 2, other),
        emitted(at, 3, keyed("org", "l")),
        emitted(at, 4, keyed("org", "l")),
    ];
    let decided = fixture.run(of_org(&events)).expect("they are decided");
    let known = decided[0].as_ref().expect("it is the one before");
    assert_eq!(known.event, first);
    let expected = [
        Ok(true),
        Err(Refusal::IdempotencyConflict),
        Ok(false),
        Ok(true),
    ];
    assert_eq!(replayed(Ok(decided)), expected);
    assert_eq!(fixture.reader().open_count(), 2);
}

#[test]
fn of_an_outbox_what_there_is_no_room_for_is_left_there_with_all_behind_it() {
    let mut fixture = Fixture::with(|options| options.pending_limit = 2);
    let endpoint = fixture.endpoint("org", &["order.*"]);
    let at = fixture.now;
    let events = [1, 2, 3].map(|n| emitted(at, n, event("org", "order.created")));
    // This one would fit: nobody receives it.
    let unheard = emitted(at, 4, event("org", "a.b"));
    let all = [events.as_slice(), &[unheard]].concat();
    assert_eq!(replayed(fixture.run(of_org(&all))), [Ok(false), Ok(false)]);
    assert_eq!(fixture.refusal(of_org(&all[2..])), Refusal::Full);
    let first = fixture.all_deliveries(&of_endpoint(endpoint.id), 10);
    let first = first.last().expect("a delivery").id;
    fixture.settle(first, NextStep::Success);
    assert_eq!(
        replayed(fixture.run(of_org(&all[2..]))),
        [Ok(false), Ok(false)]
    );
    fixture.expect_whole();
}

//! Purges: what they remove, from whom, and in which steps.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::maintenance::AdvancePurge;
use stormhook_store::purge::PURGED_EVENTS;
use stormhook_store::{
    ApiKey, ApiKeyId, Attempt, AttemptOutcome, BeginPurge, CreateApiKey, DeleteOrganization,
    DeletedOrganization, Delivery, DeliveryFilter, Endpoint, Event, EventFilter, EventId, NextStep,
    Op, Purge, PurgeScope, Reason, Refusal, Replay, Retry, Scope, Scopes, Settle, Status, UnixMs,
};

fn begin(organization: &str, scope: PurgeScope) -> BeginPurge {
    BeginPurge {
        organization: organization.to_owned(),
        scope,
    }
}

fn these(events: &[&Arc<Event>]) -> PurgeScope {
    PurgeScope::Events(events.iter().map(|event| event.id).collect())
}

/// An attempt that failed, with what the receiver answered.
fn answered(event: &Event, endpoint: &Endpoint, next_step: NextStep, now: UnixMs) -> Op {
    let settled = settle(pair(event, endpoint), next_step, now);
    Op::Settle(Box::new(Settle {
        attempt: Attempt {
            outcome: AttemptOutcome::HttpStatus,
            response_code: Some(500),
            response_excerpt: Some(b"what was sent".to_vec()),
            ..settled.attempt
        },
        ..settled
    }))
}

/// Removes all that the purges in progress remove, and returns how many steps that took.
fn remove_all(fixture: &mut Fixture) -> usize {
    let mut steps = 0;
    while let Some(purge) = fixture.reader().purges().iter().next().cloned() {
        let mut after = EventId(0);
        loop {
            let found = fixture.reader().purge_step(&purge, after).expect("a step");
            steps += 1;
            let advanced = fixture.run(AdvancePurge {
                organization: purge.organization.clone(),
                number: purge.number,
                events: found.events,
                ends: found.next.is_none(),
            });
            match found.next {
                Some(next) => after = next,
                None if advanced.finished => break,
                None => {
                    fixture.work_off();
                }
            }
            assert!(steps < 1_000, "the purge does not end");
        }
    }
    steps
}

/// Returns what readers see of an event: whether it is there, and whether it has data.
fn seen(fixture: &Fixture, event: &Event) -> (bool, bool) {
    let stored = fixture.reader().event(event.id).expect("it can be read");
    let shown = stored.and_then(|event| fixture.reader().purges().shown(event));
    (
        shown.is_some(),
        shown.is_some_and(|event| event.data.is_some()),
    )
}

fn has_excerpt(delivery: &Delivery) -> bool {
    let mut attempts = delivery.attempts.iter();
    attempts.any(|attempt| attempt.response_excerpt.is_some())
}

#[test]
fn purged_events_lose_their_data_at_once_and_open_deliveries_end() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let events = fixture.orders(6);
    let [open, retrying, abandoned, sent, other, _] = &events[..] else {
        panic!("six events");
    };
    let now = fixture.now;
    let later = now.plus_ms(60_000);
    fixture.apply(vec![
        answered(retrying, &endpoint, NextStep::RetryAt(later), now),
        answered(abandoned, &endpoint, NextStep::GiveUp, now),
        answered(other, &endpoint, NextStep::GiveUp, now),
    ]);
    fixture.settle(pair(sent, &endpoint), NextStep::Success);
    let purge = begin("org", these(&[sent, retrying, open, abandoned]));
    fixture.run(purge).expect("it begins");
    for _ in 0..2 {
        for event in [open, retrying, abandoned, sent] {
            assert_eq!(seen(&fixture, event), (true, false), "{}", event.id);
        }
        assert_eq!(seen(&fixture, other), (true, true));
        // It is kept until it is done, whatever happens.
        fixture.reopen();
    }
    let replay = Replay {
        event: sent.id,
        endpoint: endpoint.id,
    };
    assert_eq!(fixture.refusal(replay), Refusal::DataGone);
    remove_all(&mut fixture);
    for _ in 0..2 {
        assert!(fixture.reader().purges().is_empty());
        for (event, status, reason) in [
            (open, Status::Failed, Some(Reason::Purged)),
            (retrying, Status::Failed, Some(Reason::Purged)),
            (abandoned, Status::Abandoned, Some(Reason::Purged)),
            (sent, Status::Success, None),
        ] {
            let stored = fixture
                .reader()
                .event(event.id)
                .unwrap()
                .expect("it is there");
            assert_eq!(stored.data, None);
            assert_eq!(stored.event_type, event.event_type);
            let delivery = fixture.delivery(pair(event, &endpoint));
            assert_eq!((delivery.status, delivery.reason), (status, reason));
            assert!(!has_excerpt(&delivery), "{}", event.id);
        }
        assert_eq!(seen(&fixture, other), (true, true));
        assert!(has_excerpt(&fixture.delivery(pair(other, &endpoint))));
        fixture.expect_whole();
        fixture.reopen();
    }
    // None of them can be sent again, one by one or all together.
    let retry = Retry(pair(abandoned, &endpoint));
    assert_eq!(fixture.refusal(retry), Refusal::DataGone);
    assert_eq!(fixture.recoverable(endpoint.id, false), 1);
    let open: Vec<_> = fixture.open().iter().map(|waiting| waiting.id).collect();
    assert_eq!(open, [pair(&events[5], &endpoint)]);
}

#[test]
fn an_outcome_that_comes_after_the_purge_leaves_no_excerpt() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    fixture
        .run(begin("org", these(&[&event])))
        .expect("it begins");
    remove_all(&mut fixture);
    let now = fixture.now;
    let outcome = answered(&event, &endpoint, NextStep::RetryAt(now.plus_ms(9)), now);
    fixture.apply(vec![outcome]);
    let delivery = fixture.delivery(pair(&event, &endpoint));
    assert_eq!(delivery.status, Status::Failed);
    assert_eq!(delivery.attempts.len(), 1);
    assert!(!has_excerpt(&delivery));
    fixture.expect_whole();
}

#[test]
fn a_purge_by_time_takes_the_organization_s_events_up_to_then_and_no_later_ones() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    fixture.endpoint("neighbour", &["*"]);
    let mut events = Vec::new();
    for _ in 0..300 {
        events.push(fixture.order());
        fixture.accept(event("neighbour", "order.created"));
    }
    fixture.pass_ms(1);
    let before = fixture.now;
    let at_that_time = fixture.order();
    // A time to come is about what there is already.
    let mut far = begin("org", PurgeScope::Before(EventId::first_of(before)));
    let purge: Purge = fixture.run(far.clone()).expect("it begins");
    assert_eq!(purge.scope, far.scope);
    remove_all(&mut fixture);
    for event in &events {
        assert_eq!(seen(&fixture, event), (true, false));
        assert_eq!(fixture.status(pair(event, &endpoint)), Status::Failed);
    }
    assert_eq!(seen(&fixture, &at_that_time), (true, true));
    let of_neighbour = EventFilter {
        organization: Some("neighbour".to_owned()),
        ..EventFilter::default()
    };
    let kept = fixture.all_events(&of_neighbour, 100);
    assert_eq!(kept.len(), 300);
    assert!(kept.iter().all(|event| event.data.is_some()));
    far.scope = PurgeScope::Before(EventId::first_of(before.plus_ms(DAY_MS)));
    fixture.run(far).expect("it begins");
    let later = fixture.order();
    remove_all(&mut fixture);
    assert_eq!(seen(&fixture, &at_that_time), (true, false));
    assert_eq!(seen(&fixture, &later), (true, true));
    fixture.expect_whole();
}

#[test]
fn an_event_of_another_organization_is_not_purged_by_its_id() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let event = fixture.order();
    let purge = begin("other", these(&[&event]));
    fixture.run(purge).expect("it begins");
    assert_eq!(seen(&fixture, &event), (true, true));
    remove_all(&mut fixture);
    assert_eq!(seen(&fixture, &event), (true, true));
}

#[test]
fn as_many_events_as_a_purge_may_name_are_removed_in_one_step() {
    let mut fixture = Fixture::new();
    let events = fixture.orders(PURGED_EVENTS);
    let all: Vec<&Arc<Event>> = events.iter().collect();
    fixture.run(begin("org", these(&all))).expect("it begins");
    assert_eq!(remove_all(&mut fixture), 1);
    for event in &events {
        assert_eq!(seen(&fixture, event), (true, false));
    }
}

fn key(n: u8, organization: Option<&str>) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new(START, u128::from(n)),
        name: "of a test".to_owned(),
        organization: organization.map(str::to_owned),
        scopes: Scopes::of([Scope::Read]),
        digest: [n; 32],
        created_at: START,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

#[test]
fn a_deleted_organization_leaves_nothing_and_begins_anew() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let second = fixture.endpoint("org", &["*"]);
    let neighbour = fixture.endpoint("neighbour", &["*"]);
    let first = fixture.accept(keyed("org", "key"));
    let events = fixture.orders(200);
    let theirs = fixture.accept(event("neighbour", "order.created"));
    let now = fixture.now;
    fixture.apply(vec![
        answered(&events[0], &endpoint, NextStep::GiveUp, now),
        answered(
            &events[1],
            &endpoint,
            NextStep::RetryAt(now.plus_ms(9)),
            now,
        ),
    ]);
    for (n, of) in [(1, Some("org")), (2, Some("neighbour")), (3, None)] {
        let create = CreateApiKey(Box::new(key(n, of)));
        fixture.run(create).expect("it is created");
    }
    let delete = DeleteOrganization {
        organization: "org".to_owned(),
    };
    let deleted = fixture.run(delete.clone()).expect("it is done");
    let expected = DeletedOrganization {
        endpoints: 2,
        api_keys: 1,
    };
    assert_eq!(deleted, expected);
    assert!(fixture.reader().endpoint(endpoint.id).is_none());
    for event in events.iter().chain([&first]) {
        assert_eq!(seen(&fixture, event), (false, false));
    }
    let purges = fixture.reader().purges();
    assert!(purges.removes("org", now) && !purges.removes("neighbour", now));
    fixture.reopen();
    // What it makes since then is not touched.
    let again = fixture.accept(keyed("org", "key"));
    assert_ne!(again.id, first.id);
    let new_endpoint = fixture.endpoint("org", &["*"]);
    let fresh = fixture.order();
    remove_all(&mut fixture);
    for _ in 0..2 {
        let of_org = EventFilter {
            organization: Some("org".to_owned()),
            ..EventFilter::default()
        };
        let found: Vec<EventId> = fixture
            .all_events(&of_org, 100)
            .iter()
            .map(|e| e.id)
            .collect();
        assert_eq!(found, [fresh.id, again.id]);
        let all: Vec<_> = fixture.all_deliveries(&DeliveryFilter::default(), 100);
        let all: Vec<_> = all.iter().map(|delivery| delivery.id).collect();
        assert_eq!(
            all,
            [pair(&fresh, &new_endpoint), pair(&theirs, &neighbour)]
        );
        for gone in [&endpoint, &second] {
            assert!(fixture.reader().endpoint_or_mark(gone.id).is_none());
        }
        assert!(fixture.reader().endpoint(neighbour.id).is_some());
        let keys = fixture.reader().api_keys(None, 100).items;
        let mut left: Vec<_> = keys.iter().map(|key| key.digest[0]).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3]);
        assert_eq!(seen(&fixture, &theirs), (true, true));
        for event in events.iter().chain([&first]) {
            assert_eq!(seen(&fixture, event), (false, false));
        }
        fixture.expect_whole();
        fixture.reopen();
    }
    assert_eq!(fixture.open().len(), 2);
    // Its new event has its key now.
    let replayed = fixture.run(keyed("org", "key")).expect("it is known");
    assert!(replayed.replayed);
    assert_eq!(replayed.event.id, again.id);
    // Deleted again, that goes too.
    let deleted = fixture.run(delete).expect("it is done");
    assert_eq!((deleted.endpoints, deleted.api_keys), (1, 0));
    remove_all(&mut fixture);
    assert_eq!(seen(&fixture, &fresh), (false, false));
    fixture.expect_whole();
}

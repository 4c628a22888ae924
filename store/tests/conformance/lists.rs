//! Lists: newest first, cursors, filters, bounded pages.

use crate::support::*;
use std::collections::BTreeSet;
use stormhook_store::query::{DeliveryFilter, EventFilter, ROWS_PER_PAGE};
use stormhook_store::{
    DeleteEndpoint, DeliveryId, EndpointId, NewEvent, NextStep, Replay, Retry, Status,
};

#[test]
fn events_are_listed_newest_first_whatever_the_size_of_a_page() {
    let mut fixture = Fixture::new();
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.extend(fixture.orders(n * 3).iter().map(|e| e.id));
        fixture.pass_ms(1);
    }
    ids.reverse();
    for limit in [1, 2, 7, 50, 250] {
        let listed = fixture.all_events(&EventFilter::default(), limit);
        let listed: Vec<_> = listed.iter().map(|e| e.id).collect();
        assert_eq!(listed, ids, "{limit} a page");
        let page = fixture
            .reader()
            .events(&EventFilter::default(), None, limit);
        assert!(page.unwrap().items.len() <= limit);
    }
}

#[test]
fn events_are_filtered_by_organization_type_and_time() {
    let mut fixture = Fixture::new();
    for n in 0..40 {
        let organization = ["org", "org2"][n % 2];
        let event_type = ["order.created", "order.paid"][n / 2 % 2];
        fixture.accept(event(organization, event_type));
        fixture.pass_ms(100);
    }
    let count = |filter: EventFilter| fixture.all_events(&filter, 3).len();
    let organization = Some("org".to_owned());
    assert_eq!(
        count(EventFilter {
            organization: organization.clone(),
            ..EventFilter::default()
        }),
        20
    );
    assert_eq!(
        count(EventFilter {
            organization,
            event_type: Some("order.paid".to_owned()),
            ..EventFilter::default()
        }),
        10
    );
    // From the first, inclusive, to the second, exclusive.
    let filter = EventFilter {
        since: Some(START.plus_ms(1_000)),
        until: Some(START.plus_ms(2_000)),
        ..EventFilter::default()
    };
    let times: Vec<_> = fixture
        .all_events(&filter, 3)
        .iter()
        .map(|e| e.id.accepted_at().since_ms(START))
        .collect();
    assert_eq!(
        times,
        [1900, 1800, 1700, 1600, 1500, 1400, 1300, 1200, 1100, 1000]
    );
    let backwards = EventFilter {
        since: filter.until,
        until: filter.since,
        ..EventFilter::default()
    };
    assert_eq!(count(backwards), 0);
}

#[test]
fn events_are_found_under_their_key_those_it_had_before_it_expired_too() {
    let mut fixture = Fixture::new();
    let first = fixture.accept(keyed("org", "k"));
    fixture.orders(10);
    fixture.accept(keyed("org2", "k"));
    fixture.pass_ms(DAY_MS);
    let second = fixture.accept(keyed("org", "k"));
    fixture.orders(10);
    let filter = EventFilter {
        organization: Some("org".to_owned()),
        idempotency_key: Some("k".to_owned()),
        ..EventFilter::default()
    };
    for limit in [1, 2, 50] {
        let found = fixture.all_events(&filter, limit);
        let found: Vec<_> = found.iter().map(|e| e.id).collect();
        assert_eq!(found, [second.id, first.id], "{limit} a page");
    }
    let none = EventFilter {
        idempotency_key: Some("other".to_owned()),
        ..filter.clone()
    };
    assert_eq!(fixture.all_events(&none, 5).len(), 0);
    let without_organization = EventFilter {
        organization: None,
        ..filter.clone()
    };
    assert_eq!(fixture.all_events(&without_organization, 5).len(), 3);
    let until = EventFilter {
        until: Some(START.plus_ms(1)),
        ..filter
    };
    assert_eq!(fixture.all_events(&until, 5), [first]);
}

#[test]
fn a_page_that_looked_at_its_limit_of_rows_returns_what_it_has() {
    let mut fixture = Fixture::new();
    let rare = fixture.accept(event("rare", "a.b"));
    let endpoint = fixture.endpoint("org", &["*"]);
    fixture.orders(2 * ROWS_PER_PAGE);
    let filter = EventFilter {
        organization: Some("rare".to_owned()),
        ..EventFilter::default()
    };
    let page = fixture.reader().events(&filter, None, 50).unwrap();
    assert!(page.items.is_empty() && page.next.is_some());
    assert_eq!(fixture.all_events(&filter, 50), [rare]);
    for endpoint in [None, Some(endpoint.id)] {
        let settled = DeliveryFilter {
            endpoint,
            status: Some(Status::Success),
            ..DeliveryFilter::default()
        };
        let page = fixture.reader().deliveries(&settled, None, 50).unwrap();
        assert!(page.items.is_empty() && page.next.is_some());
        assert_eq!(fixture.all_deliveries(&settled, 50), []);
    }
}

#[test]
fn undelivered_deliveries_are_found_without_reading_the_rest() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let (first, second) = (fixture.order(), fixture.order());
    fixture.orders(2 * ROWS_PER_PAGE);
    fixture.settle(pair(&first, &endpoint), NextStep::GiveUp);
    fixture.settle(pair(&second, &endpoint), NextStep::Gone);
    let of = |status| DeliveryFilter {
        status: Some(status),
        ..DeliveryFilter::default()
    };
    let first_page = |fixture: &Fixture, status| {
        let page = fixture.reader().deliveries(&of(status), None, 50).unwrap();
        let ids: Vec<_> = page.items.iter().map(|v| v.delivery.id).collect();
        (ids, page.next)
    };
    let abandoned = first_page(&fixture, Status::Abandoned);
    assert_eq!(abandoned, (vec![pair(&first, &endpoint)], None));
    let failed = first_page(&fixture, Status::Failed);
    assert_eq!(failed, (vec![pair(&second, &endpoint)], None));
    fixture.delivery_done(Retry(pair(&first, &endpoint)));
    assert_eq!(first_page(&fixture, Status::Abandoned), (vec![], None));
}

#[test]
fn deliveries_are_listed_newest_first_and_filtered() {
    let mut fixture = Fixture::new();
    let a = fixture.endpoint("org", &["*"]);
    let b = fixture.endpoint("org", &["order.*"]);
    let mut events = Vec::new();
    for n in 0..30 {
        let event_type = ["order.created", "invoice.paid"][n % 2];
        events.push(fixture.accept(event("org", event_type)));
        fixture.pass_ms(10);
    }
    for event in events.iter().step_by(3) {
        fixture.settle(pair(event, &a), NextStep::Success);
    }
    let every = fixture.all_deliveries(&DeliveryFilter::default(), 7);
    assert_eq!(every.len(), 45);
    assert!(every.is_sorted_by(|x, y| (x.id.event, x.id.slot) > (y.id.event, y.id.slot)));
    let count = |filter: DeliveryFilter| fixture.all_deliveries(&filter, 4).len();
    assert_eq!(count(of_endpoint(a.id)), 30);
    assert_eq!(count(of_endpoint(b.id)), 15);
    assert_eq!(count(of_endpoint(EndpointId(3))), 0);
    for endpoint in [None, Some(a.id)] {
        let filter = || DeliveryFilter {
            endpoint,
            ..DeliveryFilter::default()
        };
        assert_eq!(
            count(DeliveryFilter {
                status: Some(Status::Success),
                ..filter()
            }),
            10
        );
        assert_eq!(
            count(DeliveryFilter {
                event_type: Some("invoice.paid".to_owned()),
                ..filter()
            }),
            15
        );
        let within = fixture.all_deliveries(
            &DeliveryFilter {
                since: Some(START.plus_ms(100)),
                until: Some(START.plus_ms(200)),
                ..filter()
            },
            4,
        );
        let times: BTreeSet<_> = within
            .iter()
            .map(|d| d.created_at.since_ms(START) / 10)
            .collect();
        assert_eq!(times, (10..20).collect());
        let of_event = fixture.all_deliveries(
            &DeliveryFilter {
                event: Some(events[4].id),
                ..filter()
            },
            1,
        );
        assert_eq!(of_event.len(), if endpoint.is_some() { 1 } else { 2 });
        assert!(of_event.iter().all(|d| d.id.event == events[4].id));
    }
    let shown = fixture.reader().delivery(pair(&events[4], &b)).unwrap();
    let shown = shown.expect("it is there");
    assert_eq!((shown.endpoint, &shown.event), (b.id, &events[4]));
}

#[test]
fn an_endpoints_deliveries_are_listed_over_the_journal_and_several_generations() {
    let mut fixture = Fixture::new();
    let quiet = fixture.endpoint("org", &["rare.*"]);
    let busy = fixture.endpoint("org", &["*"]);
    let mut of_quiet = Vec::new();
    for _ in 0..3 {
        for _ in 0..2 {
            of_quiet.push(fixture.accept(event("org", "rare.one")));
        }
        fixture.orders(33_000);
        // An event that is delivered late has a late number under an old id.
        let late = fixture.accept(event("org", "order.created"));
        fixture.delivery_done(Replay {
            event: late.id,
            endpoint: quiet.id,
        });
        of_quiet.push(late);
        fixture.pass_ms(1_000);
    }
    let expected: Vec<DeliveryId> = of_quiet.iter().rev().map(|e| pair(e, &quiet)).collect();
    for _ in 0..2 {
        for limit in [1, 2, 4, 50] {
            let listed = fixture.all_deliveries(&of_endpoint(quiet.id), limit);
            let ids: Vec<_> = listed.iter().map(|d| d.id).collect();
            assert_eq!(ids, expected, "{limit} a page");
            let sequences: Vec<_> = listed.iter().map(|d| d.sequence).collect();
            assert_eq!(sequences, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        }
        fixture.reopen();
    }
    let first = fixture
        .reader()
        .deliveries(&of_endpoint(busy.id), None, 250)
        .unwrap();
    let sequences = first.items.iter().map(|v| v.delivery.sequence);
    assert!(sequences.eq((0..250).map(|n| 33_003 * 3 - n)));
    assert_eq!(
        fixture.all_deliveries(&of_endpoint(busy.id), 5_000).len(),
        33_003 * 3
    );
}

#[test]
fn endpoints_are_listed_newest_first_without_the_deleted() {
    let mut fixture = Fixture::new();
    let mut made = Vec::new();
    for n in 0..12 {
        made.push(fixture.endpoint(["org", "org2"][n % 2], &["*"]).id);
    }
    fixture.endpoint_done(DeleteEndpoint { id: made[4] });
    fixture.change(made[6], activate(false));
    let list = |organization: Option<&str>, active| {
        let reader = fixture.reader();
        pages(|after| Ok(reader.endpoints(organization, active, after, 2)))
            .iter()
            .map(|e| made.iter().position(|id| *id == e.id).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(None, None), [11, 10, 9, 8, 7, 6, 5, 3, 2, 1, 0]);
    assert_eq!(list(Some("org"), None), [10, 8, 6, 2, 0]);
    assert_eq!(list(Some("org"), Some(true)), [10, 8, 2, 0]);
    assert_eq!(list(None, Some(false)), [6]);
    assert_eq!(list(Some("nobody"), None), Vec::<usize>::new());
    assert_eq!(fixture.reader().all_endpoints().len(), 12);
}

#[test]
fn a_list_of_large_events_looks_at_fewer_of_them() {
    let mut fixture = Fixture::new();
    let large = NewEvent {
        data: vec![b'1'; 1 << 20],
        ..event("org", "a.b")
    };
    for _ in 0..50 {
        fixture.accept(large.clone());
    }
    let filter = EventFilter {
        organization: Some("nobody".to_owned()),
        ..EventFilter::default()
    };
    let page = fixture.reader().events(&filter, None, 50).unwrap();
    assert!(page.next.is_some());
    assert_eq!(fixture.all_events(&filter, 50).len(), 0);
    assert_eq!(fixture.all_events(&EventFilter::default(), 50).len(), 50);
}

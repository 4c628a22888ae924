//! Damage while reading: it is named where it would have been shown, and intact data is still shown.

use crate::support::disk::Disk;
use crate::support::raw::{Rows, edit};
use crate::support::*;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use stormhook_store::maintenance::{FlushStats, Probe};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::stats::Span;
use stormhook_store::{
    Cursor, Damage, DeliveryId, EventId, NextStep, Op, Page, Reader, Record, StatsOf, Status,
    Store, StoreError, Unreadable,
};

/// Returns all pages of a list: items, and named damage.
fn all<T>(page: impl Fn(Option<Cursor>) -> Result<Page<T>, StoreError>) -> (Vec<T>, Vec<Damage>) {
    let (mut items, mut damaged, mut after) = (Vec::new(), Vec::new(), None);
    for _ in 0..10_000 {
        let page = page(after).expect("damage is no error of a list");
        items.extend(page.items);
        damaged.extend(page.damaged);
        match page.next {
            Some(next) => {
                assert_ne!(after, Some(next), "a page must get on");
                after = Some(next);
            }
            None => return (items, damaged),
        }
    }
    panic!("the list does not end");
}

fn events(reader: &Reader, filter: &EventFilter, limit: usize) -> (Vec<EventId>, Vec<Damage>) {
    let (items, damaged) = all(|after| {
        let page = reader.events(filter, after, limit)?;
        assert!(page.items.len() + page.damaged.len() <= limit);
        Ok(page)
    });
    (items.iter().map(|e| e.id).collect(), damaged)
}

fn deliveries(
    reader: &Reader,
    filter: &DeliveryFilter,
    limit: usize,
) -> (Vec<DeliveryId>, Vec<Unreadable>) {
    let (items, damaged) = all(|after| {
        let page = reader.deliveries(filter, after, limit)?;
        assert!(page.items.len() + page.damaged.len() <= limit);
        Ok(page)
    });
    let named = damaged.into_iter().map(|d| d.what).collect();
    (items.iter().map(|v| v.delivery.id).collect(), named)
}

/// Changes a bit in the last byte of this row, without the knowledge of a store that is then reopened.
fn flip<const N: usize>(fixture: &mut Fixture, table: &str, at: usize) {
    fixture.close();
    edit::<N>(&fixture.options.path, table, &mut |rows: &mut Rows| {
        let row = rows.values_mut().nth(at).expect("the row is there");
        *row.last_mut().unwrap() ^= 1;
    });
    fixture.reopen();
}

const LIMITS: [usize; 5] = [1, 2, 3, 10, 250];

/// Returns four packs of three events, each with abandoned deliveries to two endpoints.
fn four_packs() -> (Fixture, Vec<EventId>, [stormhook_store::EndpointId; 2]) {
    let mut fixture = Fixture::new();
    let endpoints = [
        fixture.endpoint("org", &["*"]),
        fixture.endpoint("org", &["*"]),
    ];
    let mut ids = Vec::new();
    for _ in 0..4 {
        let made = fixture.orders(3);
        for event in &made {
            for endpoint in &endpoints {
                fixture.settle(pair(event, endpoint), NextStep::GiveUp);
            }
        }
        ids.extend(made.iter().map(|e| e.id));
        fixture.pass_ms(1);
    }
    (fixture, ids, endpoints.map(|e| e.id))
}

#[test]
fn a_damaged_pack_is_named_by_the_lists_and_hides_no_other_event() {
    for damaged in 0..4 {
        let (mut fixture, ids, [endpoint, _]) = four_packs();
        flip::<16>(&mut fixture, "packs", damaged);
        let reader = fixture.reader();
        let end = ids.get(damaged * 3 + 3);
        let end = end.copied().unwrap_or(EventId(u128::MAX));
        let lost: Vec<EventId> = ids[damaged * 3..damaged * 3 + 3].to_vec();
        let left: Vec<EventId> = ids
            .iter()
            .rev()
            .filter(|id| !lost.contains(id))
            .copied()
            .collect();
        let filters = [
            EventFilter::default(),
            EventFilter {
                organization: Some("org".to_owned()),
                event_type: Some("order.created".to_owned()),
                ..EventFilter::default()
            },
        ];
        for (filter, limit) in filters.iter().flat_map(|f| LIMITS.map(|limit| (f, limit))) {
            let (listed, named) = events(&reader, filter, limit);
            assert_eq!(listed, left, "pack {damaged}, {limit} a page");
            let [named] = &named[..] else {
                panic!("pack {damaged}, {limit} a page: {named:?}");
            };
            assert_eq!(named.what, Unreadable::Events(lost[0], end));
            assert!(named.detail.contains("its checksum is wrong"), "{named:?}");
        }
        let filters = [
            (DeliveryFilter::default(), 2),
            (of_endpoint(endpoint), 1),
            (
                DeliveryFilter {
                    status: Some(Status::Abandoned),
                    ..DeliveryFilter::default()
                },
                2,
            ),
            (
                DeliveryFilter {
                    event_type: Some("order.created".to_owned()),
                    ..of_endpoint(endpoint)
                },
                1,
            ),
        ];
        for ((filter, each), limit) in filters.iter().flat_map(|f| LIMITS.map(|limit| (f, limit))) {
            let (listed, named) = deliveries(&reader, filter, limit);
            let events: BTreeSet<EventId> = listed.iter().map(|id| id.event).collect();
            assert_eq!(listed.len(), left.len() * each, "{limit} a page");
            assert_eq!(events, left.iter().copied().collect());
            assert_eq!(named.len(), lost.len() * each);
            let of_lost = |what: &Unreadable| matches!(what, Unreadable::Delivery(id) if lost.contains(&id.event));
            assert!(named.iter().all(of_lost), "{named:?}");
        }
    }
}

#[test]
fn a_span_that_ends_before_a_damaged_pack_does_not_name_it() {
    let (mut fixture, ids, _) = four_packs();
    flip::<16>(&mut fixture, "packs", 1);
    let span = |since: usize, until: usize| EventFilter {
        since: Some(ids[since].accepted_at()),
        until: Some(ids[until].accepted_at()),
        ..EventFilter::default()
    };
    let named = |filter| events(&fixture.reader(), &filter, 50).1.len();
    assert_eq!(named(span(0, 3)), 0);
    assert_eq!(named(span(3, 6)), 1);
    assert_eq!(named(span(9, 11)), 0);
}

#[test]
fn a_damaged_delivery_is_named_by_the_lists_and_hides_no_other() {
    let (mut fixture, ids, [first, second]) = four_packs();
    flip::<20>(&mut fixture, "deliveries", 9);
    let lost = pair_of(ids[4], fixture.reader().endpoint(second).unwrap().slot);
    let of_status = DeliveryFilter {
        status: Some(Status::Abandoned),
        ..DeliveryFilter::default()
    };
    let reader = fixture.reader();
    for limit in LIMITS {
        for (filter, count) in [
            (DeliveryFilter::default(), 23),
            (of_endpoint(second), 11),
            (of_status.clone(), 23),
        ] {
            let (listed, named) = deliveries(&reader, &filter, limit);
            assert_eq!(listed.len(), count, "{limit} a page");
            assert_eq!(named, [Unreadable::Delivery(lost)]);
        }
        let (listed, named) = deliveries(&reader, &of_endpoint(first), limit);
        assert_eq!((listed.len(), named.len()), (12, 0));
        assert_eq!(events(&reader, &EventFilter::default(), limit).1, []);
    }
}

#[test]
fn a_damaged_part_of_an_endpoints_list_is_named_by_its_sequence_numbers() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]).id;
    for generation in 0..2 {
        fixture.orders(5);
        let many = (0..32_768).map(|n| Op::Accept(keyed("nobody", &format!("{generation} {n}"))));
        fixture.apply(many.collect());
        fixture.one(Op::Probe(Probe));
    }
    fixture.orders(4);
    for (damaged, from, before) in [(0, 1, 6), (1, 6, 11)] {
        flip::<12>(&mut fixture, "history", damaged);
        let reader = fixture.reader();
        for limit in LIMITS {
            let (listed, named) = deliveries(&reader, &of_endpoint(endpoint), limit);
            assert_eq!(listed.len(), 9, "{limit} a page");
            assert_eq!(named, [Unreadable::Sequences(endpoint, from, before)]);
        }
        drop(reader);
        flip::<12>(&mut fixture, "history", damaged);
    }
    flip::<12>(&mut fixture, "history", 0);
    flip::<12>(&mut fixture, "history", 1);
    for limit in LIMITS {
        let (listed, named) = deliveries(&fixture.reader(), &of_endpoint(endpoint), limit);
        assert_eq!(listed.len(), 4);
        assert_eq!(named, [Unreadable::Sequences(endpoint, 1, 11)]);
    }
}

#[test]
fn damaged_statistics_count_nothing_and_are_told() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    for _ in 0..2 {
        let order = fixture.order();
        fixture.settle(pair(&order, &endpoint), NextStep::Success);
        fixture.pass_ms(60_000);
        fixture.one(Op::FlushStats(FlushStats));
    }
    // The endpoint's minutes, those of all, the hours: the first is one of the endpoint's minutes.
    flip::<13>(&mut fixture, "windows", 0);
    let of = StatsOf::Endpoints(vec![endpoint.slot]);
    let now = fixture.now;
    let (sum, damaged) = fixture
        .reader()
        .stats_and_damage(Span::FiveMinutes, now, &of)
        .unwrap();
    assert_eq!((sum.counters.success, damaged), (1, 1));
    let (sum, damaged) = fixture
        .reader()
        .stats_and_damage(Span::Hour, now, &of)
        .unwrap();
    assert_eq!((sum.counters.success, damaged), (1, 1));
    let (sum, damaged) = fixture
        .reader()
        .stats_and_damage(Span::All, now, &of)
        .unwrap();
    assert_eq!((sum.counters.success, damaged), (2, 0));
}

#[test]
fn a_damaged_revision_is_named_where_an_event_is_explained_and_is_no_missed_event() {
    let (mut fixture, ids, [first, second]) = four_packs();
    fixture.change(second, activate(false));
    fixture.order();
    assert_eq!(fixture.recoverable(second, true), 13);
    flip::<20>(&mut fixture, "revisions", 2);
    let explained = fixture.reader().explain(ids[11]).unwrap().unwrap();
    assert_eq!(explained.answers.len(), 2);
    let last = fixture.all_events(&EventFilter::default(), 1)[0].id;
    let explained = fixture.reader().explain(last).unwrap().unwrap();
    assert_eq!(explained.answers.len(), 1);
    assert_eq!(explained.answers[0].0, first);
    assert_eq!(explained.damaged[0].what, Unreadable::Endpoint(second));
    assert_eq!(fixture.recoverable(second, true), 12);
}

/// Returns the results of a walk: events, deliveries, and named damage.
fn walked(
    reader: &Reader,
    filter: &EventFilter,
) -> (Vec<EventId>, Vec<DeliveryId>, Vec<Unreadable>) {
    let (mut events, mut deliveries, mut named) = (Vec::new(), Vec::new(), Vec::new());
    let walk = reader.walk(filter, |record| {
        match record {
            Record::Event(event) => events.push(event.id),
            Record::Delivery { delivery, .. } => deliveries.push(delivery.id),
            Record::Damaged(damage) => named.push(damage.what),
        }
        ControlFlow::Continue(())
    });
    walk.expect("damage doesn't end it");
    (events, deliveries, named)
}

#[test]
fn a_walk_names_what_is_damaged_and_goes_on() {
    let (mut fixture, ids, _) = four_packs();
    flip::<16>(&mut fixture, "packs", 1);
    flip::<20>(&mut fixture, "deliveries", 0);
    flip::<16>(&mut fixture, "packs", 3);
    let (events, deliveries, named) = walked(&fixture.reader(), &EventFilter::default());
    assert_eq!(events, [&ids[..3], &ids[6..9]].concat());
    assert_eq!(deliveries.len(), 11);
    let [Unreadable::Delivery(first), spans @ ..] = &named[..] else {
        panic!("{named:?}");
    };
    assert_eq!(first.event, ids[0]);
    let expected = [
        Unreadable::Events(ids[3], ids[6]),
        Unreadable::Events(ids[9], EventId(u128::MAX)),
    ];
    assert_eq!(spans, expected);
}

/// Damages each page of the file in turn under an open store that keeps none in memory.
#[test]
fn a_damaged_page_hides_nothing_that_is_not_named() {
    let disk = Disk::default();
    let opened = disk.clone();
    let mut options = options("simulated".into());
    options.cache_bytes = 0;
    let mut store = Store::open_on(options, move || opened.open()).unwrap();
    let mut random = 0;
    let mut apply = |store: &mut Store, ops| {
        random += 1;
        store
            .apply(ops, START.plus_ms(random), u128::from(random) << 40)
            .unwrap()
    };
    let endpoint = new_endpoint(stormhook_store::EndpointId(1), "org", &["*"]);
    apply(&mut store, vec![Op::CreateEndpoint(endpoint.into())]);
    let mut ids = Vec::new();
    for _ in 0..40 {
        let ops = (0..6).map(|n| {
            let mut new = event("org", "order.created");
            new.data = (0..600)
                .map(|at| b'0' + u8::try_from((at * at + n) % 10).unwrap())
                .collect();
            Op::Accept(new)
        });
        let applied = apply(&mut store, ops.collect());
        ids.extend(applied.done.into_iter().map(|done| accepted(done).id));
    }
    let reader = store.reader();
    let bytes = disk.bytes();
    let whole = |limit| {
        let everything = EventFilter::default();
        let (events, events_named) = events(&reader, &everything, limit);
        let (deliveries, deliveries_named) = deliveries(&reader, &DeliveryFilter::default(), limit);
        let (walked, _, walk_named) = walked(&reader, &everything);
        let events_named: Vec<_> = events_named.into_iter().map(|d| d.what).collect();
        let deliveries = deliveries.into_iter().map(|id| id.event).collect();
        [
            (events, events_named),
            (deliveries, deliveries_named),
            (walked, walk_named),
        ]
    };
    let covers = |what: &Unreadable, id: EventId| match what {
        Unreadable::Events(from, before) => (*from..*before).contains(&id),
        Unreadable::Delivery(delivery) => delivery.event == id,
        _ => false,
    };
    let (mut spans, mut shown) = (0, 0);
    for page in 1..bytes.len() / 4_096 {
        // Leaves and branches.
        if !matches!(bytes[page * 4_096], 1 | 2) {
            continue;
        }
        disk.flip(page * 4_096, 0x60);
        if let Err(e) = reader.events(&EventFilter::default(), None, 1) {
            // The way to the tables themselves.
            assert!(e.is_damage(), "{e}");
            disk.flip(page * 4_096, 0x60);
            continue;
        }
        for (found, named) in whole(7) {
            let distinct: BTreeSet<EventId> = found.iter().copied().collect();
            assert_eq!(distinct.len(), found.len(), "page {page}: twice the same");
            for id in &ids {
                let is_named = named.iter().any(|what| covers(what, *id));
                assert!(
                    found.contains(id) || is_named,
                    "page {page}: {id} is hidden, {} found, {named:?} is named",
                    found.len()
                );
            }
            if !named.is_empty() {
                spans += 1;
                shown += found.len();
            }
        }
        disk.flip(page * 4_096, 0x60);
    }
    for (found, named) in whole(7) {
        assert_eq!((found.len(), named.len()), (240, 0));
    }
    assert!(spans > 10, "{spans} lists met damage");
    assert!(shown > spans * 120, "{shown} shown in {spans} lists");
}

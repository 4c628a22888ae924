//! A history of everything that a store does, from a seed, and everything that its readers answer afterwards.

use super::*;
use std::collections::BTreeMap;
use stormhook_store::backend::write_endpoint;
use stormhook_store::maintenance::{FlushStats, Probe};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::stats::Span;
use stormhook_store::{
    BeginPurge, Cancel, CreateEndpoint, DeleteEndpoint, Encoded, EndpointKey, Item, NewEndpoint,
    NextStep, Op, PurgeScope, Replay, Retry, RotateSecret, Seal, StatsOf,
};

const ORGANIZATIONS: [&str; 3] = ["org", "org_42", "o"];

/// Fills a store. Bulk changes are left in progress, and deliveries in every status.
pub(crate) fn fill(fixture: &mut Fixture, seed: u64, steps: usize) {
    let mut draw = Random::seeded(seed);
    for (n, organization) in ORGANIZATIONS.into_iter().enumerate() {
        for types in [&["*"][..], &["order.*"], &["order.created"]] {
            let id = fixture.endpoint_id();
            let mut new = NewEndpoint {
                seed: (n == 1).then(|| super::seed(3)),
                ..new_endpoint(id, organization, types)
            };
            new.settings.tls = (n == 2).then(|| tls(4));
            fixture
                .run(CreateEndpoint {
                    new: Box::new(new),
                    key: Some(EndpointKey {
                        key: format!("{organization} {types:?}"),
                        request: [7; 32],
                    }),
                })
                .expect("it is created");
        }
    }
    for _ in 0..steps {
        step(fixture, &mut draw);
    }
    fixture.one(FlushStats);
    fixture.one(Probe);
}

fn step(fixture: &mut Fixture, draw: &mut Random) {
    fixture.pass_ms(draw.below(40_000));
    let organization = ORGANIZATIONS[usize::try_from(draw.below(3)).unwrap()];
    let reader = fixture.reader();
    let endpoints = reader.endpoints(Some(organization), None, None, 100).items;
    let Some(endpoint) = endpoints
        .get(usize::try_from(draw.below(4)).unwrap())
        .cloned()
    else {
        return;
    };
    let filter = of_endpoint(endpoint.id);
    let all = fixture.all_deliveries(&filter, 100);
    let some = |draw: &mut Random| {
        let at = usize::try_from(draw.below(all.len() as u64)).unwrap();
        all.get(at).map(|d| d.id)
    };
    match draw.below(24) {
        0..8 => {
            let mut new = event(organization, "order.created");
            new.data = format!(r#"{{"n" : {}}}"#, draw.next()).into_bytes();
            let key = draw.below(30);
            new.idempotency_key = (key < 20).then(|| format!("key {key} {}", draw.next()));
            fixture.one(Op::Accept(new));
        }
        8 => {
            fixture.one(Op::Accept(keyed(organization, "the same")));
        }
        9..16 => {
            let Some(id) = some(draw) else { return };
            let next = [
                NextStep::Success,
                NextStep::RetryAt(fixture.now.plus_ms(draw.below(100_000))),
                NextStep::GiveUp,
                NextStep::Gone,
                NextStep::Interrupted,
            ][usize::try_from(draw.below(5)).unwrap()];
            if fixture.delivery(id).status.is_open() && endpoint.receives() {
                fixture.settle(id, next);
            }
        }
        16 => {
            let Some(id) = some(draw) else { return };
            drop(fixture.run(Retry(id)));
        }
        17 => {
            let Some(id) = some(draw) else { return };
            drop(fixture.run(Cancel(id)));
        }
        18 => {
            let Some(id) = some(draw) else { return };
            let (event, endpoint) = (id.event, endpoint.id);
            drop(fixture.run(Replay { event, endpoint }));
        }
        19 => {
            let rotate = RotateSecret {
                id: endpoint.id,
                secret: secret(u8::try_from(draw.below(200)).unwrap()),
                seed: super::seed(9),
                overlap_ms: draw.below(10 * DAY_MS),
            };
            drop(fixture.run(rotate));
        }
        20 | 21 => {
            let mut change = activate(!endpoint.active);
            change.discard_held = draw.one_in(2);
            drop(fixture.change(endpoint.id, change));
        }
        22 => {
            let recover = fixture.recover_of(endpoint.id, true);
            drop(fixture.run(recover));
            if draw.one_in(2) {
                fixture.work_off();
            }
        }
        _ if draw.one_in(8) => {
            fixture.endpoint_done(DeleteEndpoint { id: endpoint.id });
        }
        // It stays in progress.
        _ if draw.one_in(4) => {
            let Some(id) = some(draw) else { return };
            let scope = if draw.one_in(2) {
                PurgeScope::Events(vec![id.event])
            } else {
                PurgeScope::Before(id.event)
            };
            let organization = organization.to_owned();
            drop(fixture.run(BeginPurge {
                organization,
                scope,
            }));
        }
        _ => drop(fixture.one(FlushStats)),
    }
}

/// Everything that readers answer, as lines.
pub(crate) fn answers(fixture: &mut Fixture) -> Vec<String> {
    let mut told = Vec::new();
    let mut tell = |what: &str, said: &dyn std::fmt::Debug| told.push(format!("{what}: {said:?}"));
    let reader = fixture.reader();
    let endpoints = reader.all_endpoints();
    tell("purges", &reader.purges());
    for e in &endpoints {
        tell(
            "endpoint",
            &write_endpoint(e, Seal::Plain).expect("it can be written"),
        );
        tell("state", &reader.state(e.slot));
        let of = of_endpoint(e.id);
        tell("of endpoint", &fixture.all_deliveries(&of, 7));
        tell("recoverable", &fixture.recoverable(e.id, true));
    }
    tell("bulks", &reader.bulks());
    let events = fixture.all_events(&EventFilter::default(), 11);
    for e in &events {
        tell("event", e);
        tell("why", &reader.explain(e.id).expect("it can be explained"));
        let all = DeliveryFilter {
            event: Some(e.id),
            ..DeliveryFilter::default()
        };
        tell("of event", &fixture.all_deliveries(&all, 5));
    }
    let all = fixture.all_deliveries(&DeliveryFilter::default(), 13);
    tell("deliveries", &all);
    for span in [Span::FiveMinutes, Span::Hour, Span::Day, Span::All] {
        let slots: Vec<_> = endpoints.iter().map(|e| vec![e.slot]).collect();
        let of = slots.into_iter().map(StatsOf::Endpoints);
        for of in of.chain([StatsOf::All]) {
            let found = reader.stats(span, fixture.now, &of);
            tell("stats", &found.expect("they can be read"));
        }
    }
    tell("open", &reader.open_count());
    tell("swept before", &reader.swept_before());
    tell("queue", &fixture.open());
    told
}

/// Goes on with a store: the numbers that it gives tell whether it knows what was before.
pub(crate) fn go_on(fixture: &mut Fixture) -> Vec<String> {
    let mut told = Vec::new();
    for organization in ORGANIZATIONS {
        let again = fixture.one(Op::Accept(keyed(organization, "the same")));
        let fresh = fixture.one(Op::Accept(event(organization, "order.created")));
        told.push(format!("{again:?} {fresh:?}"));
    }
    let id = fixture.endpoint_id();
    let made = fixture.run(CreateEndpoint::from(new_endpoint(id, "org", &["*"])));
    told.push(format!("{:?}", made.expect("it is created").endpoint.slot));
    fixture.work_off();
    told.extend(answers(fixture));
    told
}

/// Fails with the first line that differs.
pub(crate) fn expect_same(found: &[String], expected: &[String]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// Returns items in a form that can be compared: of the keys, whose order doesn't matter, the last of each.
pub(crate) fn encoded(items: &[Item]) -> Vec<Encoded> {
    let mut keys = BTreeMap::new();
    let mut others = Vec::new();
    for item in items {
        let encoded = item.encode().expect("it can be encoded");
        if matches!(item, Item::Key(..)) {
            keys.insert(encoded.key.clone(), encoded);
        } else {
            others.push(encoded);
        }
    }
    others.extend(keys.into_values());
    others
}

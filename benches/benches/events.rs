//! The path of an event without the store: reading it from JSON, compared with serde_json alone, and rendering a
//! delivery's body and headers, compared with the three hashes in them.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and panics on a wrong fixture"
)]

mod support;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::hint::black_box;
use stormhook_engine::payload::{AttemptHead, render};
use stormhook_store::endpoint::Seed;
use stormhook_store::{DeliveryId, Event, EventId, Slot};
use stormhook_verifier::{Secret, SigningKeys, content_digest};
use support::fixture::{self, NOW, NOW_S, SECRET, SEED};
use support::run::Run;

const READ: &str = "reading an event";
const RENDER: &str = "rendering a delivery";

/// The same fields, as serde derives them, with `data` passed through.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Derived<'a> {
    #[serde(borrow)]
    organization_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn read(criterion: &mut Criterion, requests: &[Bytes]) {
    let mut group = criterion.benchmark_group(READ);
    group.throughput(Throughput::Bytes(1_024));
    // Alternates between bodies: the branches of a single one would be predicted perfectly.
    let mut bodies = requests.iter().cycle();
    let mut next = || black_box(bodies.next().expect("they go round"));
    group.bench_function("as the daemon does", |b| {
        b.iter(|| fixture::read(next()));
    });
    group.bench_function("serde_json, data raw", |b| {
        b.iter(|| {
            let event: Derived<'_> = serde_json::from_slice(next()).expect("JSON");
            let data = event.data.get().as_bytes().to_vec();
            (
                event.organization_id.into_owned(),
                event.event_type.into_owned(),
                data,
            )
        });
    });
    group.bench_function("serde_json, whole", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(next()).expect("JSON"));
    });
    group.finish();
}

fn head(event: &Event) -> AttemptHead<'_> {
    AttemptHead {
        event,
        delivery: DeliveryId {
            event: event.id,
            slot: Slot(0),
        },
        sequence: 42,
        attempt: 1,
    }
}

fn rendering(criterion: &mut Criterion, requests: &[Bytes]) {
    let events: Vec<_> = (1..)
        .zip(requests)
        .map(|(id, request)| fixture::stored(fixture::read(request), EventId(id << 64)))
        .collect();
    let partner = fixture::partner(None);
    let with_key = fixture::partner(Some(Seed::from_random(&SEED)));
    let keys = SigningKeys::new([&Secret::parse(SECRET).expect("a secret")]);
    let rendered: Vec<_> = events
        .iter()
        .filter_map(|event| render(event, 42))
        .collect();
    let mut events = events.iter().cycle();
    let mut next = || black_box(events.next().expect("they go round"));
    let mut group = criterion.benchmark_group(RENDER);
    group.bench_function("body", |b| b.iter(|| render(next(), 42)));
    group.bench_function("body and headers", |b| {
        b.iter(|| {
            let event = next();
            let body = render(event, 42).expect("it has data");
            let headers = partner.headers(head(event), &body, NOW);
            (body, headers)
        });
    });
    group.bench_function("body and headers with v1a", |b| {
        b.iter(|| {
            let event = next();
            let body = render(event, 42).expect("it has data");
            let headers = with_key.headers(head(event), &body, NOW);
            (body, headers)
        });
    });
    let mut bodies = rendered.iter().cycle();
    group.bench_function("hashes alone", |b| {
        b.iter(|| {
            let body = black_box(bodies.next().expect("they go round"));
            let stormcom = keys.stormcom_signature(body);
            let standard = keys.standard_signature(fixture::ID, NOW_S, body);
            (stormcom, standard, content_digest(body))
        });
    });
    group.finish();
}

fn main() {
    let run = Run::begin();
    let requests = fixture::requests(1);
    let mut criterion = run.criterion();
    read(&mut criterion, &requests);
    rendering(&mut criterion, &requests);
    criterion.final_summary();
    let ours = "as the daemon does";
    run.ratios(READ, &[ours], "serde_json, data raw");
    run.ratios(READ, &[ours], "serde_json, whole");
    run.ratios(RENDER, &["body and headers"], "hashes alone");
}

//! Runs the targets without a fuzzer, and writes the seeds for fuzzing.

use super::{TABLES, TARGETS, row_key};
use crate::api_key::{ApiKey, Scope, Scopes};
use crate::audit::{Action, Attribution, AuditEntry, Audited};
use crate::bulk::{Bulk, BulkEffect, Reopen};
use crate::delivery::{Attempt, AttemptOutcome, Reason, Trigger};
use crate::endpoint::{CustomHeaders, NewEndpoint, Ordering, Seed, Settings, TypePattern};
use crate::event::NewEvent;
use crate::file::journal::{Bloom, Generation, Run};
use crate::file::record;
use crate::file::store::Store;
use crate::file::tables::Reading;
use crate::fingerprint::Fingerprint;
use crate::ids::{ApiKeyId, AuditId, DeliveryId, EndpointId, EventId, Slot, UnixMs};
use crate::maintenance::FlushStats;
use crate::op::Op;
use crate::options::Options;
use crate::purge::{Purge, PurgeEffect, PurgeScope};
use crate::settle::{NextStep, Settle};
use redb::ReadableTable;
use serde::Serialize;
use std::path::{Path, PathBuf};
use stormhook_verifier::Secret;

const START: UnixMs = UnixMs(1_767_323_045_000);

stormhook_testkit::smoke! { TARGETS; rows: 20_000, raw_rows: 5_000, packs: 20_000, ids: 20_000 }

fn store(path: PathBuf) -> Store {
    let options = Options {
        pending_limit: 1_000,
        endpoints_per_organization: 10,
        idempotency_ttl_ms: 1_000,
        ..Options::new(path)
    };
    Store::open(options).unwrap()
}

fn endpoint() -> NewEndpoint {
    NewEndpoint {
        id: EndpointId::new(START, 1),
        organization: "org".to_owned(),
        settings: Settings {
            url: "https://partner.example/hooks".to_owned(),
            event_types: ["*", "a.*", "a.b"]
                .map(|t| TypePattern::parse(t).unwrap())
                .into(),
            active: true,
            description: Some("one".to_owned()),
            headers: CustomHeaders([("x-a".to_owned(), "b".to_owned())].into()),
            rate_limit_per_second: Some(0.5),
            ordering: Ordering::Fifo,
            ..Settings::default()
        },
        secret: Secret::from_random(&[1; 32]),
        seed: Some(Seed::from_random(&[2; 32])),
    }
}

fn event(key: Option<&str>) -> Op {
    Op::Accept(NewEvent {
        organization: "org".to_owned(),
        event_type: "a.b".to_owned(),
        timestamp: None,
        idempotency_key: key.map(str::to_owned),
        data: b"{\"orderId\":1001}".to_vec(),
    })
}

fn settle(delivery: DeliveryId, next_step: NextStep, code: u16) -> Op {
    Op::Settle(Box::new(Settle {
        delivery,
        attempt: Attempt {
            number: 0,
            round: 0,
            trigger: Trigger::Schedule,
            started_at: START,
            duration_ms: 40,
            outcome: AttemptOutcome::HttpStatus,
            response_code: Some(code),
            response_excerpt: Some(b"down".to_vec()),
            error: Some("why".to_owned()),
            reconnected: false,
        },
        duration_us: 40_000,
        ended_at: START.plus_ms(40),
        next_step,
        disable: None,
    }))
}

fn seed(target: &str, name: &str, parts: &[&[u8]]) {
    let folder = Path::new("../fuzz/seeds").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), parts.concat()).unwrap();
}

/// Returns the first rows of a table, with and without their checksums.
fn seeds_of<const N: usize>(name: &str, table: &Reading<N>) {
    for (n, row) in table.iter().unwrap().take(3).enumerate() {
        let (key, value) = row.unwrap();
        seed_row(&format!("{name}-{n}"), name, key.value(), value.value());
    }
}

fn seed_row(file: &str, name: &str, key: &[u8], row: &[u8]) {
    let at = TABLES.iter().position(|table| *table == name).unwrap();
    let mut whole = [0; 28];
    whole[..key.len()].copy_from_slice(key);
    assert_eq!(row_key(name, &whole), key);
    let first = [u8::try_from(at).unwrap()];
    if file.ends_with("-0") {
        seed("raw_rows", file, &[&first, &whole, row]);
    }
    seed("rows", file, &[&first, &whole, &row[5..]]);
}

fn seed_value<T: Serialize>(name: &str, key: &[u8], value: &T) {
    let row = record::write(name, key, value).unwrap();
    seed_row(&format!("{name}-made"), name, key, &row);
}

fn seeds_of_callers_and_purges(event: EventId) {
    let api_key = ApiKey {
        id: ApiKeyId::new(START, 1),
        name: "orders".to_owned(),
        organization: Some("org".to_owned()),
        scopes: Scopes::of([Scope::Ingest, Scope::Read]),
        digest: [3; 32],
        created_at: START,
        expires_at: Some(START),
        revoked_at: None,
        last_used_at: Some(START),
    };
    seed_value("api_keys", &[1; 16], &api_key);
    let entry = AuditEntry {
        id: AuditId::first_of(START),
        by: Attribution::to_daemon(),
        what: Audited {
            target: Some("ep_1".to_owned()),
            after: Some("{}".to_owned()),
            ..Audited::of(Action::EndpointUpdate)
        },
    };
    seed_value("audit", &[1; 16], &entry);
    let purge = Purge {
        organization: "org".to_owned(),
        scope: PurgeScope::Events(vec![event]),
        effect: PurgeEffect::All,
        at: START,
        number: 0,
    };
    seed_value("purges", &[1; 8], &purge);
}

#[test]
#[ignore = "rewrites the seeds; run it when the form of records has changed"]
fn make_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path().join("store.redb"));
    let mut apply = |ops| store.apply(ops, START, 7).unwrap();
    apply(vec![Op::CreateEndpoint(endpoint().into())]);
    apply(vec![
        event(Some("k")),
        event(None),
        event(None),
        event(None),
    ]);
    let mut open = Vec::new();
    store.open_deliveries(|w| open.push(w.id)).unwrap();
    let ways = [
        (NextStep::Success, 200),
        (NextStep::RetryAt(START.plus_ms(60_000)), 503),
        (NextStep::GiveUp, 500),
    ];
    for (id, (verdict, code)) in open.into_iter().zip(ways) {
        store
            .apply(vec![settle(id, verdict, code)], START, 8)
            .unwrap();
    }
    store
        .apply(vec![Op::FlushStats(FlushStats)], START, 9)
        .unwrap();
    let views = |views: &crate::file::memory::Snapshot| {
        seeds_of("meta", &views.meta);
        seeds_of("endpoints", &views.endpoints);
        seeds_of("revisions", &views.revisions);
        seeds_of("deliveries", &views.deliveries);
        seeds_of("due", &views.due);
        seeds_of("bad", &views.bad);
        seeds_of("journal", &views.journal);
        seeds_of("windows", &views.windows);
        let (_, value) = views.packs.iter()?.next().unwrap()?;
        seed("packs", "packed", &[&[0], &value.value()[5..]]);
        Ok(())
    };
    store.reader().shared.view(views).unwrap();
    let event = crate::event::Event {
        id: EventId::first_of(START),
        organization: "org".to_owned(),
        event_type: "a.b".to_owned(),
        timestamp: crate::ids::Timestamp(-5),
        timestamp_text: Some(9),
        idempotency_key: Some("k".to_owned()),
        deliveries: 2,
        data: Some(b"[1]".to_vec()),
    };
    let mut content = Vec::new();
    record::content(&mut content, &event).unwrap();
    seed("packs", "events", &[&[1], &content, &content]);
    let keys = [1, 2, 3].map(|n| Fingerprint::of("org", &n.to_string()));
    let generation = Generation {
        number: 0,
        last_event: event.id,
        deliveries: 3,
        keys: 3,
        bloom: Bloom::of(keys.iter()),
    };
    seed_value("generations", &[1; 8], &generation);
    seed_value("keys", &[1; 24], &keys.map(|key| (key, event.id)).to_vec());
    seed_value("counters", &[1; 9], &crate::stats::Counters::default());
    seed_value(
        "states",
        &[1; 4],
        &crate::endpoint::EndpointState::default(),
    );
    let run = Run {
        first_sequence: 1,
        events: vec![event.id; 3],
    };
    seed_value("history", &[1; 12], &run);
    seeds_of_callers_and_purges(event.id);
    let reopen = BulkEffect::Reopen(Reopen {
        since: UnixMs(0),
        until: START,
        missed: true,
        last_event: event.id,
    });
    let end = BulkEffect::End {
        reason: Reason::Discarded,
    };
    for (name, effect) in [("bulk-reopen", reopen), ("bulk-end", end)] {
        let bulk = Bulk {
            stamp: 7,
            at: START,
            effect,
            number: 0,
        };
        let row = record::write("bulk", &[1; 12], &bulk).unwrap();
        seed_row(name, "bulk", &[1; 12], &row);
    }
    let id = DeliveryId {
        event: event.id,
        slot: Slot(1),
    }
    .to_string();
    for (name, text) in [
        ("delivery", id.clone()),
        ("event", event.id.to_string()),
        ("endpoint", EndpointId::new(START, 5).to_string()),
        ("cursor", id.replacen("dlv_", "cur_s", 1)),
    ] {
        seed("ids", name, &[text.as_bytes()]);
    }
}

//! Outcomes of attempts while commits fail: each is recorded once, whether or not the failed commit happened.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use stormhook_engine::clock::StoreClock;
use stormhook_engine::environment::System;
use stormhook_engine::writer::{Committed, Committer, Space, SubmitError, Writer};
use stormhook_store::{
    Applied, Attempt, AttemptOutcome, CreateEndpoint, DeliveryId, Done, EndpointId, NextStep,
    Options, Reader, Settle, Status, Store, Trigger, UnixMs,
};
use stormhook_testkit::disk::Disk;
use stormhook_testkit::random::Random;
use stormhook_testkit::samples;

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: &mut Applied, _: &[Option<DeliveryId>]) {}
    fn set_aside(&self, _: DeliveryId, _: &str) {}
    fn failing(&self, _: bool) {}
}

/// Remembers which outcomes met damage.
#[derive(Default)]
struct SetAside(Mutex<BTreeSet<DeliveryId>>);

impl Committed for SetAside {
    fn committed(&self, applied: &mut Applied, settled: &[Option<DeliveryId>]) {
        let damaged = settled.iter().zip(&applied.done);
        let damaged = damaged.filter(|(_, done)| !matches!(done, Done::Settle(Ok(_))));
        self.0
            .lock()
            .unwrap()
            .extend(damaged.filter_map(|(id, _)| *id));
    }
    fn set_aside(&self, delivery: DeliveryId, _: &str) {
        self.0.lock().unwrap().insert(delivery);
    }
    fn failing(&self, _: bool) {}
}

fn success(delivery: DeliveryId) -> Box<Settle> {
    Box::new(Settle {
        delivery,
        attempt: Attempt {
            number: 0,
            round: 0,
            trigger: Trigger::Schedule,
            started_at: UnixMs(0),
            duration_ms: 1,
            outcome: AttemptOutcome::Success,
            response_code: Some(204),
            response_excerpt: None,
            error: None,
            reconnected: false,
        },
        duration_us: 1_000,
        ended_at: UnixMs(0),
        next_step: NextStep::Success,
        disable: None,
    })
}

/// A writer whose commits are made by hand.
fn writer(disk: &Disk) -> (Arc<Writer>, Committer, Reader) {
    writer_for(disk, Arc::new(Nobody)).expect("a store")
}

/// The same, with `told` as the observer of its commits. `None` if the store is refused.
fn writer_for(disk: &Disk, told: Arc<dyn Committed>) -> Option<(Arc<Writer>, Committer, Reader)> {
    let options = Options::new("simulated");
    let theirs = disk.clone();
    let store = Store::open_on(options, move || theirs.open()).ok()?;
    let reader = store.reader();
    let writer = Writer::new();
    let space = || Space {
        free_bytes: u64::MAX,
        file_bytes: 0,
    };
    let clock = Arc::new(StoreClock::starting_at(Arc::new(System), UnixMs(0)));
    let committer = writer.committer(store.into(), clock, told, space);
    Some((writer, committer, reader))
}

#[test]
fn outcomes_after_a_failed_commit_are_recorded_whether_or_not_it_happened() {
    let mut happened = 0;
    for cut in 1..60 {
        let disk = Disk::default();
        let (writer, mut committer, reader) = writer(&disk);
        let new = samples::new_endpoint(EndpointId(1), "org", &["*"]);
        writer.post(CreateEndpoint::from(new));
        writer.post(samples::event("org", "order.created"));
        writer.post(samples::event("org", "order.created"));
        writer.post(samples::event("org", "order.created"));
        committer.commit_queued();
        let deliveries = reader.deliveries(&Default::default(), None, 10);
        let deliveries = deliveries.expect("they can be read").items;
        let pairs: Vec<_> = deliveries.iter().map(|d| d.delivery.id).collect();
        assert_eq!(pairs.len(), 3);

        // The first outcome is in the failing commit; the others arrive while it is in doubt.
        disk.power_for(Some(cut));
        for id in &pairs {
            writer.post(success(*id));
            committer.commit_queued();
        }
        let failed = writer.is_failing();
        disk.power_for(None);
        let before = reader.commit();
        committer.commit_queued();
        assert!(!writer.is_failing(), "cut {cut}");
        happened += u32::from(failed && reader.commit() == before + 2);
        for id in pairs {
            let found = reader.bare_delivery(id).expect("it can be read");
            let found = found.map(|d| (d.status, d.attempts_total));
            assert_eq!(found, Some((Status::Success, 1)), "cut {cut}");
        }
    }
    assert!(happened > 0, "no failed commit had happened");
}

#[test]
fn operations_that_meet_damage_are_set_aside_and_the_others_are_committed() {
    let disk = Disk::default();
    let (writer, mut committer, reader) = writer(&disk);
    let new = samples::new_endpoint(EndpointId(1), "org", &["*"]);
    writer.post(CreateEndpoint::from(new));
    for _ in 0..200 {
        writer.post(samples::event("org", "order.created"));
    }
    committer.commit_queued();
    let found = reader.deliveries(&Default::default(), None, 250).unwrap();
    let pairs: Vec<_> = found.items.iter().map(|d| d.delivery.id).collect();
    assert_eq!(pairs.len(), 200);
    drop((committer, reader));
    let sound = disk.bytes();

    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    let mut random = Random::seeded(5);
    let (mut apart, mut refused, mut stuck) = (0, 0, 0);
    // The heads of pages are where redb trusts what it reads.
    let heads: Vec<_> = (4_096..sound.len())
        .filter(|at| at % 4_096 < 256 && sound[*at] != 0)
        .collect();
    for _ in 0..150 {
        let at = heads[usize::try_from(random.below(heads.len() as u64)).unwrap()];
        let mut bytes = sound.clone();
        bytes[at] ^= 3 << random.below(7);
        let told = Arc::new(SetAside::default());
        let disk = Disk::of(bytes);
        let Some((writer, mut committer, reader)) = writer_for(&disk, Arc::clone(&told) as _)
        else {
            continue;
        };
        for id in &pairs {
            writer.post(success(*id));
        }
        let accepted = writer.enqueue(samples::event("org", "order.created"));
        let accepted = accepted.unwrap();
        committer.commit_queued();
        if writer.is_failing() {
            // A page of redb's own: nothing can be committed, and that is reported.
            assert!(writer.is_damaged(), "byte {at}");
            assert_ne!(reader.check().unwrap().damage, [""; 0], "byte {at}");
            stuck += 1;
            continue;
        }
        match runtime.block_on(accepted) {
            Ok(Ok(_)) => {}
            // A page to which every event is written.
            Err(SubmitError::StoreFailed) => {
                assert!(writer.is_refusing(), "byte {at}");
                assert_ne!(reader.check().unwrap().damage, [""; 0], "byte {at}");
                refused += 1;
            }
            other => panic!("byte {at}: {other:?}"),
        }
        let set_aside = told.0.lock().unwrap().clone();
        apart += u32::from(!set_aside.is_empty());
        let damage = reader.check().unwrap().damage;
        for id in &pairs {
            let status = reader.bare_delivery(*id).map(|d| d.map(|d| d.status));
            let settled = matches!(status, Ok(Some(Status::Success)));
            // One search may find a damaged key that the next does not.
            let told = settled != set_aside.contains(id) || !damage.is_empty();
            assert!(told, "byte {at}: {id} {status:?}");
        }
    }
    let counts =
        format!("{apart} set aside, {refused} refused events, {stuck} made no commit possible");
    assert!(apart > 0, "{counts}");
}

//! Outcomes of attempts while commits fail: each is recorded once, whatever became of the commit that failed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

#[allow(
    dead_code,
    reason = "shared with the store's tests, which use other parts of it"
)]
#[path = "../../../store/tests/support/disk.rs"]
mod disk;
#[allow(dead_code, reason = "as above")]
#[path = "../../../store/tests/support/random.rs"]
mod random;
#[allow(dead_code, reason = "as above")]
#[path = "../../../store/tests/support/samples.rs"]
mod samples;

use disk::Disk;
use std::sync::Arc;
use stormhook::clock::StoreClock;
use stormhook::writer::{Committed, Committer, Space, Writer};
use stormhook_store::{
    Applied, Attempt, AttemptOutcome, DeliveryId, EndpointId, Op, Options, Reader, Settle, Status,
    Store, Trigger, UnixMs, Verdict,
};

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: &mut Applied, _: &[Option<DeliveryId>]) {}
    fn failing(&self, _: bool) {}
}

fn success(delivery: DeliveryId) -> Op {
    Op::Settle(Box::new(Settle {
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
        },
        duration_us: 1_000,
        ended_at: UnixMs(0),
        verdict: Verdict::Success,
        disable: None,
    }))
}

/// A writer whose commits are made by hand.
fn writer(disk: &Disk) -> (Arc<Writer>, Committer, Reader) {
    let options = Options {
        path: "simulated".into(),
        cache_bytes: 1 << 20,
        pending_limit: 1_000,
        endpoints_per_organization: 1_000,
        idempotency_ttl_ms: 86_400_000,
    };
    let theirs = disk.clone();
    let store = Store::open_on(options, move || theirs.open()).expect("a store");
    let reader = store.reader();
    let writer = Writer::new(0);
    let space = || Space {
        free_bytes: u64::MAX,
        file_bytes: 0,
    };
    let clock = Arc::new(StoreClock::starting_at(UnixMs(0)));
    let committer = writer.committer(store, clock, Arc::new(Nobody), space);
    (writer, committer, reader)
}

#[test]
fn outcomes_that_came_in_after_a_commit_failed_are_recorded_whatever_became_of_it() {
    let mut happened = 0;
    for cut in 1..60 {
        let disk = Disk::default();
        let (writer, mut committer, reader) = writer(&disk);
        writer.post(Op::CreateEndpoint(Box::new(samples::new_endpoint(
            EndpointId(1),
            "org",
            &["*"],
        ))));
        writer.post(Op::Accept(samples::event("org", "order.created")));
        writer.post(Op::Accept(samples::event("org", "order.created")));
        writer.post(Op::Accept(samples::event("org", "order.created")));
        committer.commit_queued();
        let deliveries = reader.deliveries(&Default::default(), None, 10);
        let deliveries = deliveries.expect("they can be read").items;
        let pairs: Vec<_> = deliveries.iter().map(|d| d.delivery.id).collect();
        assert_eq!(pairs.len(), 3);

        // The first outcome is in the commit that fails, the others come while nobody knows what became of it.
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
    assert!(happened > 0, "no commit failed that happened all the same");
}

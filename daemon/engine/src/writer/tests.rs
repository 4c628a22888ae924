//! The writer with commits made by hand: which caller waits for room, what goes into a commit, and in which order.

use super::*;
use crate::environment::{Environment, System};
use queue::{QUEUE_BYTES, QUEUE_OPS};
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use stormhook_store::endpoint::{Settings, TypePattern};
use stormhook_store::maintenance::Probe;
use stormhook_store::{
    CreateEndpoint, Done, EndpointId, Event, NewEndpoint, NewEvent, Options, UnixMs,
};
use stormhook_verifier::Secret;

/// The events that each commit has stored since the last look.
#[derive(Default)]
struct Seen(Mutex<Vec<Vec<Arc<Event>>>>);

impl Committed for Seen {
    fn committed(&self, applied: &mut Applied, _: &[Option<DeliveryId>]) {
        let accepted = applied.done.iter().filter_map(|done| match done {
            Done::Accept(Ok(accepted)) => Some(Arc::clone(&accepted.event)),
            _ => None,
        });
        self.0.lock().unwrap().push(accepted.collect());
    }

    fn failing(&self, _: bool) {}

    fn set_aside(&self, _: DeliveryId, _: &str) {}
}

/// A writer whose commits are made by hand.
struct Fixture {
    writer: Arc<Writer>,
    committer: Committer,
    seen: Arc<Seen>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = stormhook_store::Store::open(Options::new(dir.path().join("store.redb")));
        let writer = Writer::new();
        let seen = Arc::new(Seen::default());
        let clock = Arc::new(StoreClock::starting_at(Arc::new(System), UnixMs(0)));
        let look = || Space {
            free_bytes: u64::MAX,
            file_bytes: 0,
        };
        let committer = writer.committer(store.unwrap().into(), clock, seen.clone(), look);
        Self {
            writer,
            committer,
            seen,
            _dir: dir,
        }
    }

    fn endpoints(&self, organization: &str, count: u128) {
        let id = EndpointId::new(UnixMs(0), System.random_u128());
        for n in 0..count {
            self.writer.post(CreateEndpoint::from(NewEndpoint {
                id: EndpointId(id.0 ^ n),
                organization: organization.to_owned(),
                settings: Settings {
                    url: "https://partner.example/".to_owned(),
                    event_types: vec![TypePattern::parse("*").unwrap()],
                    active: true,
                    ..Settings::default()
                },
                secret: Secret::from_random(&[1; 32]),
                seed: None,
            }));
        }
    }

    /// Commits everything that waits. Returns the events of each commit.
    fn commit_all(&mut self) -> Vec<Vec<Arc<Event>>> {
        while self.writer.queued() > 0 {
            self.committer.commit_queued();
        }
        std::mem::take(&mut *self.seen.0.lock().unwrap())
    }
}

fn event(organization: &str, bytes: usize) -> NewEvent {
    NewEvent {
        organization: organization.to_owned(),
        event_type: "a".to_owned(),
        timestamp: None,
        idempotency_key: None,
        data: vec![b'1'; bytes],
    }
}

/// Queues events until there is no room. Returns their number.
fn fill(writer: &Writer, organization: &str, bytes: usize) -> usize {
    let queued = |_: &usize| writer.enqueue(event(organization, bytes)).is_ok();
    (0..).take_while(queued).count()
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn who_waits_for_room_is_not_awake_meanwhile() {
    for (full_by, bytes) in [("operations", 100), ("bytes", 250 << 10)] {
        let mut fixture = Fixture::new();
        let queued = fill(&fixture.writer, "org", bytes);
        assert!(queued <= QUEUE_OPS / 2 && queued * bytes <= QUEUE_BYTES / 2);
        let tries = AtomicU64::new(0);
        let still_takes = || {
            let before = tries.fetch_add(1, Ordering::Relaxed);
            assert!(before < 100, "full by {full_by}: it tries without end");
            Ok(())
        };
        let mut waiting = pin!(
            fixture
                .writer
                .enqueue_with_room(event("org", bytes), still_takes)
        );
        for _ in 0..10 {
            assert!(poll(waiting.as_mut()).is_pending(), "full by {full_by}");
        }
        // It tried once: a task that is polled again without need doesn't try either.
        assert_eq!(tries.load(Ordering::Relaxed), 1, "full by {full_by}");
        let mut commits = 0;
        while poll(waiting.as_mut()).is_pending() {
            assert!(
                commits < 20,
                "full by {full_by}: there is room, and it waits"
            );
            fixture.committer.commit_queued();
            commits += 1;
        }
        assert!(tries.load(Ordering::Relaxed) <= 1 + commits);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_stream_that_waits_for_a_stalled_writer_stands_in_nobodys_way() {
    for bytes in [100, 250 << 10] {
        let writer = Writer::new();
        let theirs = Arc::clone(&writer);
        let tries = Arc::new(AtomicU64::new(0));
        let tried = Arc::clone(&tries);
        let stream = tokio::spawn(async move {
            let still_takes = || {
                let before = tried.fetch_add(1, Ordering::Relaxed);
                assert!(before < 20_000, "it tries without end");
                Ok(())
            };
            let mut queued = Vec::new();
            loop {
                let op = event("org", bytes);
                match theirs.enqueue_with_room(op, still_takes).await {
                    Ok(pending) => queued.push(pending),
                    Err(why) => return (queued.len(), why),
                }
            }
        });
        // The only thread there is runs this as often as it likes.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        assert!(!stream.is_finished());
        let tried = tries.load(Ordering::Relaxed);
        writer.close();
        let (queued, why) = stream.await.unwrap();
        assert_eq!(why, SubmitError::ShuttingDown);
        assert_eq!(u64::try_from(queued).unwrap() + 1, tried);
    }
}

#[test]
fn each_of_many_who_wait_hears_of_room() {
    let mut fixture = Fixture::new();
    fill(&fixture.writer, "org", 250 << 10);
    let writer = Arc::clone(&fixture.writer);
    let mut waiting: Vec<_> = (0..300)
        .map(|_| Box::pin(writer.enqueue_with_room(event("org", 250 << 10), || Ok(()))))
        .collect();
    let mut commits = 0;
    while !waiting.is_empty() {
        waiting.retain_mut(|one| poll(one.as_mut()).is_pending());
        assert!(
            commits < 100,
            "{} wait although there is room",
            waiting.len()
        );
        fixture.committer.commit_queued();
        commits += 1;
    }
}

#[test]
fn one_organization_that_fills_the_queue_leaves_room_for_another() {
    let fixture = Fixture::new();
    fill(&fixture.writer, "loud", 100);
    for n in 0..100 {
        let answer = fixture.writer.enqueue(event(&format!("quiet_{n}"), 100));
        assert!(answer.is_ok(), "{n}");
    }
    assert!(fixture.writer.enqueue(event("loud", 100)).is_err());
}

#[test]
fn a_commit_is_bounded_in_rows_and_another_organizations_event_goes_with_the_next_one() {
    const ENDPOINTS: u32 = 300;
    const EVENTS: usize = 70;
    let mut fixture = Fixture::new();
    fixture.endpoints("loud", u128::from(ENDPOINTS));
    fixture.endpoints("quiet", 2);
    fixture.commit_all();
    let mut waiting = Vec::new();
    for _ in 0..EVENTS {
        waiting.push(fixture.writer.enqueue(event("loud", 10)).unwrap());
    }
    waiting.push(fixture.writer.enqueue(event("quiet", 10)).unwrap());
    fixture.committer.commit_queued();
    // One more while events of the first organization still wait.
    waiting.push(fixture.writer.enqueue(event("quiet", 10)).unwrap());
    let commits = fixture.commit_all();
    let mut loud = 0;
    for (at, commit) in commits.iter().enumerate() {
        let rows: u32 = commit.iter().map(|e| 1 + e.deliveries).sum();
        assert!(rows <= 20_000, "commit {at}: {rows} rows");
        loud += commit.iter().filter(|e| e.organization == "loud").count();
    }
    assert_eq!(loud, EVENTS);
    assert!(commits.len() >= EVENTS * ENDPOINTS as usize / 20_000);
    for at in [0, 1] {
        let quiet = commits[at].iter().filter(|e| e.organization == "quiet");
        assert_eq!(quiet.count(), 1, "commit {at}");
    }
    for mut pending in waiting {
        let answer = poll(Pin::new(&mut pending));
        assert!(matches!(answer, Poll::Ready(Ok(Ok(_)))));
    }
}

#[test]
fn endpoints_made_in_the_same_commit_do_not_lift_its_bound() {
    let mut fixture = Fixture::new();
    for _ in 0..100 {
        drop(fixture.writer.enqueue(event("org", 10)).unwrap());
    }
    fixture.endpoints("org", 400);
    let commits = fixture.commit_all();
    for (at, commit) in commits.iter().enumerate() {
        let rows: u32 = commit.iter().map(|e| 1 + e.deliveries).sum();
        assert!(rows <= 20_000, "commit {at}: {rows} rows");
    }
    assert_eq!(commits[0][0].deliveries, 400);
    assert_eq!(commits.concat().len(), 100);
}

#[test]
fn events_of_an_organization_keep_their_order() {
    let mut fixture = Fixture::new();
    let mut waiting = Vec::new();
    let mut sent = HashMap::<String, Vec<usize>>::new();
    for n in 0..3_000 {
        let organization = format!("org_{}", n % 3);
        sent.entry(organization.clone()).or_default().push(n);
        let event = NewEvent {
            organization,
            event_type: "a".to_owned(),
            timestamp: None,
            idempotency_key: Some(n.to_string()),
            data: b"1".to_vec(),
        };
        waiting.push(fixture.writer.enqueue(event).unwrap());
        if n % 500 == 0 {
            fixture.committer.commit_queued();
        }
    }
    let mut stored = HashMap::<String, Vec<usize>>::new();
    for event in fixture.commit_all().into_iter().flatten() {
        let number = event.idempotency_key.as_deref().unwrap().parse().unwrap();
        let of = stored.entry(event.organization.clone()).or_default();
        of.push(number);
    }
    assert_eq!(stored, sent);
    assert_eq!(fixture.writer.keyed_in_flight(), 0);
}

/// A command that commits nothing and must not meet an attempt.
struct Guarded;

impl From<Guarded> for Op {
    fn from(_: Guarded) -> Self {
        Self::Probe(Probe)
    }
}

impl Operation for Guarded {
    type Answer = ();

    fn answer(done: Done) -> Result<(), String> {
        Probe::answer(done)
    }
}

impl Held for Guarded {
    type Hold = Arc<()>;
}

#[test]
fn a_hold_lasts_until_its_command_is_committed() {
    let mut fixture = Fixture::new();
    let hold = Arc::new(());
    let writer = Arc::clone(&fixture.writer);
    let mut submitted = pin!(writer.submit_holding(Arc::clone(&hold), Guarded));
    assert!(poll(submitted.as_mut()).is_pending());
    assert_eq!(fixture.writer.queued(), 1);
    assert_eq!(Arc::strong_count(&hold), 2, "it is held while it waits");
    fixture.committer.commit_queued();
    assert_eq!(
        Arc::strong_count(&hold),
        2,
        "it is held when it is committed"
    );
    assert_eq!(poll(submitted.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(Arc::strong_count(&hold), 1, "it is free");
}

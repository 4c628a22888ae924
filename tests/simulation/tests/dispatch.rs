//! Dispatch on a runtime with a paused clock, with receivers that the test controls.

#![allow(clippy::expect_used, reason = "a test that can't go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stormhook_engine::Settings;
use stormhook_engine::dispatch::{CommandError, Dispatch};
use stormhook_engine::outcome::Reply;
use stormhook_engine::retention::Retention;
use stormhook_engine::transport::{AttemptRequest, Attempted, Attempting, Destination};
use stormhook_engine::writer::Writer;
use stormhook_simulation::Unheld;
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::{
    Cancel, CreateEndpoint, DeliveryId, EndpointId, EventId, Options, Reader, Reason, Recover,
    Status, Store, UnixMs, UpdateEndpoint,
};
use stormhook_testkit::samples;
use tokio::sync::Semaphore;

const NOW: UnixMs = UnixMs(1_767_323_045_000);

/// Receivers that connect only when told to, and accept everything. A test can delay their answers too.
#[derive(Debug)]
struct Gate {
    connecting: Semaphore,
    answering: Semaphore,
    asked: AtomicUsize,
    sent: AtomicUsize,
}

impl Destination for Gate {
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let connected = self.connecting.acquire().await;
            connected.expect("the gate stays").forget();
            if !(request.still_wanted)() {
                return Attempted::NotSent;
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            let answered = self.answering.acquire().await;
            answered.expect("the gate stays").forget();
            Attempted::from(Reply::Status {
                code: 204,
                retry_after: None,
                excerpt: Vec::new(),
            })
        })
    }
}

/// Retention of five minutes for everything.
const KEPT: Duration = Duration::from_secs(300);

/// An engine whose receivers wait at a gate.
struct Core {
    _folder: tempfile::TempDir,
    gate: Arc<Gate>,
    reader: Reader,
    writer: Arc<Writer>,
    dispatch: Arc<Dispatch>,
}

/// The most answers that receivers give unless told to.
const ANSWERS: usize = 1_000;
/// The most commits that a test makes.
const COMMITS: u32 = 10_000;

impl Core {
    async fn start(pending_deliveries: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let gate = Arc::new(Gate {
            connecting: Semaphore::new(0),
            answering: Semaphore::new(ANSWERS),
            asked: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        });
        let store = Store::open(Options {
            pending_limit: pending_deliveries,
            idempotency_ttl_ms: 300_000,
            ..Options::new(folder.path().join("store.redb"))
        });
        let settings = Settings {
            pending_deliveries,
            retention: Retention {
                events: KEPT,
                attempts: KEPT,
                audit: KEPT,
            },
            ..stormhook_simulation::settings()
        };
        let store = store.expect("a store");
        let core =
            stormhook_simulation::Core::start(store, settings, gate.clone(), NOW, COMMITS).await;
        Self {
            _folder: folder,
            gate,
            reader: core.engine.reader().file().expect("a file").clone(),
            writer: core.engine.writer().clone(),
            dispatch: core.engine.dispatch().clone(),
        }
    }

    /// Creates an endpoint that subscribes to everything.
    async fn endpoint(&self) -> EndpointId {
        let new = samples::new_endpoint(EndpointId::new(NOW, 7), "org", &["*"]);
        let id = new.id;
        let create = CreateEndpoint::from(new);
        let created = self.writer.submit(create).await.expect("a commit");
        created.expect("an endpoint");
        id
    }

    async fn accept(&self) -> EventId {
        let event = samples::event("org", "order.created");
        let accepted = self.writer.submit(event).await.expect("a commit");
        accepted.expect("it is accepted").event.id
    }
}

fn recover_of(endpoint: EndpointId) -> Recover {
    Recover {
        endpoint,
        since: UnixMs(0),
        until: UnixMs(u64::MAX),
        missed: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_without_room_makes_no_commits() {
    let core = Core::start(1).await;
    let (id, slot) = (core.endpoint().await, stormhook_store::Slot(0));
    let event = core.accept().await;
    // Cancelled without a hold: its attempt stays at the gate.
    let pair = DeliveryId { event, slot };
    let cancelled = core.writer.submit(Unheld(Cancel(pair))).await;
    cancelled.expect("a commit").expect("an end");
    core.accept().await;
    let recover = core.writer.submit(Unheld(recover_of(id))).await;
    recover.expect("a commit").expect("it begins");
    let before = core.reader.commit();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(core.reader.bulk_waits(), "it still waits for room");
    let made = core.reader.commit() - before;
    assert!(made < 10, "{made} commits");
}

/// Disables an endpoint, and enables it again discarding its held deliveries.
async fn discard(core: &Core, id: EndpointId) {
    for (active, discard_held) in [(false, false), (true, true)] {
        let change = Box::new(EndpointChange {
            active: Some(active),
            discard_held,
            ..EndpointChange::default()
        });
        let update = UpdateEndpoint { id, change };
        let updated = core.dispatch.update_endpoint(update).await;
        updated.expect("a change");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_waits_for_discarded_deliveries_on_the_wire() {
    let core = Core::start(1000).await;
    core.gate.answering.forget_permits(ANSWERS);
    core.gate.connecting.add_permits(2);
    let id = core.endpoint().await;
    let event = core.accept().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(core.gate.sent.load(Ordering::Relaxed), 1);
    discard(&core, id).await;
    let recover = tokio::spawn({
        let dispatch = core.dispatch.clone();
        async move { dispatch.recover(recover_of(id)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(core.gate.sent.load(Ordering::Relaxed), 1, "one at a time");
    assert!(!recover.is_finished());
    core.gate.answering.add_permits(2);
    let recovered = recover.await.expect("no panic");
    recovered.expect("it begins");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let slot = core.reader.endpoint(id).expect("it exists").slot;
    let found = core.reader.bare_delivery(DeliveryId { event, slot });
    let found = found.expect("it can be read").expect("it exists");
    assert_eq!((found.status, found.round), (Status::Success, 2));
    assert_eq!(core.gate.sent.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_caller_goes_away_holds_its_delivery_until_it_is_committed() {
    let core = Core::start(1000).await;
    core.gate.connecting.add_permits(5);
    let (id, slot) = (core.endpoint().await, stormhook_store::Slot(0));
    let event = core.accept().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pair = DeliveryId { event, slot };
    let hold = core.dispatch.hold(pair).expect("nothing is on the wire");
    let caller = hold.retry();
    // Polled once: the change is submitted, and its caller is gone.
    tokio::select! {
        biased;
        done = caller => unreachable!("not immediately: {done:?}"),
        () = std::future::ready(()) => {}
    }
    let second = core.dispatch.hold(pair).err().expect("it is held");
    assert_eq!(second, CommandError::InFlight);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let found = core.reader.bare_delivery(pair).expect("it can be read");
    let found = found.expect("it exists");
    assert_eq!((found.status, found.round), (Status::Success, 2), "{id}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_discarded_while_connecting_is_not_sent_and_stays_discarded() {
    let core = Core::start(1000).await;
    let Core {
        gate,
        reader,
        dispatch,
        ..
    } = &core;
    let id = core.endpoint().await;
    let event = core.accept().await;
    tokio::task::yield_now().await;
    assert_eq!(gate.asked.load(Ordering::Relaxed), 1);
    discard(&core, id).await;
    gate.connecting.add_permits(5);
    dispatch.drained().await;
    // Maintenance has finished by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.sent.load(Ordering::Relaxed), 0);
    let endpoint = reader.endpoint(id).expect("it exists");
    assert!(!reader.bulk_waits(), "its end is written");
    let pair = DeliveryId {
        event,
        slot: endpoint.slot,
    };
    let found = reader.bare_delivery(pair).expect("it can be read");
    let found = found.map(|d| (d.status, d.reason));
    assert_eq!(found, Some((Status::Failed, Some(Reason::Discarded))));
    assert_eq!(reader.check().expect("it can be checked").damage, [""; 0]);
}

/// Yields until a condition holds.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    unreachable!("the condition never holds");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_during_a_long_sweep_finishes_before_the_sweep() {
    let core = Core::start(10000).await;
    let (id, slot) = (core.endpoint().await, stormhook_store::Slot(0));
    // One pack each, so that the sweep takes many commits.
    let mut old = Vec::new();
    for _ in 0..320 {
        let event = core.accept().await;
        let end = Unheld(Cancel(DeliveryId { event, slot }));
        let ended = core.writer.submit(end).await.expect("a commit");
        ended.expect("an end");
        old.push(event);
    }
    // The sweep begins after a minute, then every ten: the second pass finds these past their retention.
    tokio::time::sleep(Duration::from_secs(11 * 60 - 1)).await;
    let since = UnixMs(NOW.0 + 600_000);
    let accepts: Vec<_> = (0..2_500)
        .map(|_| {
            let writer = core.writer.clone();
            let young = samples::event("org", "order.created");
            tokio::spawn(async move { writer.submit(young).await })
        })
        .collect();
    let mut ends = Vec::new();
    for accept in accepts {
        let accepted = accept.await.expect("a task").expect("a commit");
        let event = accepted.expect("it is accepted").event.id;
        let writer = core.writer.clone();
        let end = Unheld(Cancel(DeliveryId { event, slot }));
        ends.push(tokio::spawn(async move { writer.submit(end).await }));
    }
    for end in ends {
        let end = end.await.expect("a task").expect("a commit");
        end.expect("an end");
    }
    let is_there = |event: &EventId| core.reader.event(*event).expect("it can be read").is_some();
    tokio::time::advance(Duration::from_secs(60)).await;
    until(|| !is_there(&old[0])).await;
    let recover = Recover {
        since,
        ..recover_of(id)
    };
    let (open, commit) = (core.reader.open_count(), core.reader.commit());
    core.dispatch.recover(recover).await.expect("a recovery");
    until(|| !core.reader.bulk_waits()).await;
    assert_eq!(core.reader.open_count(), open + 2_500);
    let made = core.reader.commit() - commit;
    assert!(made < 10, "{made} commits");
    assert!(is_there(&old[319]), "the sweep is still in progress");
    until(|| !is_there(&old[319])).await;
}

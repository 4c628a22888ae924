//! Dispatch on a runtime with a paused clock, with partners that do as the test says.

#![allow(clippy::expect_used, reason = "a test that can't go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stormhook::clock::StoreClock;
use stormhook::config::Config;
use stormhook::deliver::{AttemptRequest, Attempted};
use stormhook::dispatch::{Dispatch, OnCommit};
use stormhook::outcome::Reply;
use stormhook::serve;
use stormhook::simulation::{self, Attempting};
use stormhook::writer::{Space, Writer};
use stormhook_store::endpoint::EndpointChange;
use stormhook_store::{
    DeliveryId, Done, EndpointId, EventId, Op, Reader, Reason, Status, Store, UnixMs,
};
use tokio::sync::Semaphore;

const NOW: UnixMs = UnixMs(1_767_323_045_000);

/// Partners that connect only when told to, and take everything.
struct Gate {
    connecting: Semaphore,
    asked: AtomicUsize,
    sent: AtomicUsize,
}

impl simulation::Partners for Gate {
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>, _: Duration) -> Attempting<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let connected = self.connecting.acquire().await;
            connected.expect("the gate stays").forget();
            if !(request.still_wanted)() {
                return Attempted::NotSent;
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            Attempted::Reply(Reply::Status {
                code: 204,
                retry_after: None,
                excerpt: Vec::new(),
            })
        })
    }
}

fn config(folder: &Path, pending: &str) -> Arc<Config> {
    let folder = folder.to_str().expect("a name");
    let flags = [("data_dir", folder), ("limits.pending_deliveries", pending)];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Arc::new(Config::from_sources(None, [], &flags).expect("a configuration"))
}

/// A daemon's core whose partners wait at a gate.
struct Core {
    _folder: tempfile::TempDir,
    gate: Arc<Gate>,
    reader: Reader,
    writer: Arc<Writer>,
    dispatch: Arc<Dispatch>,
}

/// The most commits that a test makes.
const COMMITS: u32 = 1_000;

impl Core {
    fn start(pending: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), pending);
        let gate = Arc::new(Gate {
            connecting: Semaphore::new(0),
            asked: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        });
        simulation::enter(NOW, 7, gate.clone());
        let store = Store::open(serve::options(&config)).expect("a store");
        let reader = store.reader();
        let (writer, clock) = (Writer::new(0), Arc::new(StoreClock::default()));
        let dispatch = Dispatch::new(&store, writer.clone(), clock.clone(), &config, None);
        let dispatch = dispatch.expect("a dispatch");
        let told = Arc::new(OnCommit(dispatch.clone()));
        let look = || Space {
            free_bytes: u64::MAX,
            file_bytes: 0,
        };
        let mut committer = writer.committer(store, clock, told, look);
        let queued = writer.clone();
        tokio::spawn(async move {
            for _ in 0..COMMITS {
                if queued.work().await {
                    committer.commit_queued();
                }
            }
        });
        dispatch.start();
        Self {
            _folder: folder,
            gate,
            reader,
            writer,
            dispatch,
        }
    }

    async fn accept(&self) -> EventId {
        match self.writer.submit(Op::Accept(support::event())).await {
            Ok(Done::Accepted(event)) => event.id,
            other => unreachable!("not accepted: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recover_that_waits_for_room_makes_no_commits_meanwhile() {
    let core = Core::start("1");
    let new = support::endpoint(EndpointId::new(NOW, 7));
    let (id, slot) = (new.id, stormhook_store::Slot(0));
    let create = Op::CreateEndpoint(Box::new(new));
    core.writer.submit(create).await.expect("an endpoint");
    let event = core.accept().await;
    // Cancelled by the store alone: its attempt is at the gate for good.
    let pair = DeliveryId { event, slot };
    core.writer.submit(Op::Cancel(pair)).await.expect("an end");
    core.accept().await;
    let recover = stormhook_store::Recover {
        endpoint: id,
        since: UnixMs(0),
        until: UnixMs(u64::MAX),
        missed: false,
        count: 1,
    };
    let recover = core.writer.submit(Op::Recover(recover)).await;
    assert!(
        matches!(recover, Ok(Done::Recovering { .. })),
        "{recover:?}"
    );
    let before = core.reader.commit();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(core.reader.jobs_wait(), "there is no room for it");
    let made = core.reader.commit() - before;
    assert!(made < 10, "{made} commits");
    simulation::leave();
}

#[tokio::test(start_paused = true)]
async fn what_was_discarded_while_its_attempt_was_connecting_is_not_sent_and_stays_discarded() {
    let core = Core::start("1000");
    let Core {
        gate,
        reader,
        writer,
        dispatch,
        ..
    } = &core;
    let new = support::endpoint(EndpointId::new(NOW, 7));
    let id = new.id;
    let create = Op::CreateEndpoint(Box::new(new));
    writer.submit(create).await.expect("an endpoint");
    let event = core.accept().await;
    tokio::task::yield_now().await;
    assert_eq!(gate.asked.load(Ordering::Relaxed), 1);
    for (active, discard_held) in [(false, false), (true, true)] {
        let change = Box::new(EndpointChange {
            active: Some(active),
            discard_held,
            ..EndpointChange::default()
        });
        let change = Op::UpdateEndpoint { id, change };
        writer.submit(change).await.expect("a change");
    }
    gate.connecting.add_permits(5);
    dispatch.silence().await;
    // What is done behind has been done by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.sent.load(Ordering::Relaxed), 0);
    let endpoint = reader.endpoint(id).expect("it is there");
    assert!(endpoint.ended.is_empty(), "the mark was worked off");
    let pair = DeliveryId {
        event,
        slot: endpoint.slot,
    };
    let found = reader.bare_delivery(pair).expect("it can be read");
    let found = found.map(|d| (d.status, d.reason));
    assert_eq!(found, Some((Status::Failed, Some(Reason::Discarded))));
    assert_eq!(reader.check().expect("it can be checked").damage, [""; 0]);
    simulation::leave();
}

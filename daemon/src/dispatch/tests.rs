//! Dispatch on a runtime with a paused clock, with partners that do as the test says.

#![allow(clippy::expect_used, reason = "a test that can't go on fails")]

use super::*;
use crate::deliver::{AttemptRequest, Attempted};
use crate::outcome::Reply;
use crate::serve;
use crate::simulation::{self, Attempting};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use stormhook_store::endpoint::{CustomHeaders, EndpointChange, Ordering as Order, TypePattern};
use stormhook_store::{NewEndpoint, NewEvent, Reason, Status, UnixMs};
use stormhook_verifier::Secret;
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

fn endpoint() -> NewEndpoint {
    NewEndpoint {
        id: EndpointId::new(NOW, 7),
        organization: "org".to_owned(),
        url: "https://partner.example/hooks".to_owned(),
        event_types: vec![TypePattern::All],
        active: true,
        description: None,
        headers: CustomHeaders::default(),
        rate_limit_per_second: None,
        ordering: Order::Parallel,
        secret: Secret::from_random(&[1; 32]),
        seed: None,
    }
}

fn config(folder: &Path) -> Arc<Config> {
    let folder = folder.to_str().expect("a name");
    let flags = [("data_dir".to_owned(), folder.to_owned())];
    Arc::new(Config::from_sources(None, [], &flags).expect("a configuration"))
}

#[tokio::test(start_paused = true)]
async fn what_was_discarded_while_its_attempt_was_connecting_is_not_sent_and_stays_discarded() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path());
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
    let look = || crate::writer::Space {
        free_bytes: u64::MAX,
        file_bytes: 0,
    };
    let mut committer = writer.committer(store, clock, told, look);
    let queued = writer.clone();
    let writing = tokio::spawn(async move {
        while queued.work().await {
            committer.commit_queued();
        }
        committer.finish();
    });
    dispatch.start();

    let new = endpoint();
    let id = new.id;
    let create = Op::CreateEndpoint(Box::new(new));
    writer.submit(create).await.expect("an endpoint");
    let event = NewEvent {
        organization: "org".to_owned(),
        event_type: "order.created".to_owned(),
        timestamp: None,
        idempotency_key: None,
        data: b"1".to_vec(),
    };
    let Ok(Done::Accepted(event)) = writer.submit(Op::Accept(event)).await else {
        panic!("not accepted");
    };
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
        event: event.id,
        slot: endpoint.slot,
    };
    let found = reader.bare_delivery(pair).expect("it can be read");
    let found = found.map(|d| (d.status, d.reason));
    assert_eq!(found, Some((Status::Failed, Some(Reason::Discarded))));
    assert_eq!(reader.check().expect("it can be checked").damage, [""; 0]);
    writer.close();
    writing.await.expect("it ends");
    simulation::leave();
}

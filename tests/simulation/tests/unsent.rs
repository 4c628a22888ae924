//! The daemon's own trouble, on a runtime with a paused clock: unreadable data, damaged data, lack of resources. No
//! attempt is recorded without a request, and nothing is counted against a receiver.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that can't go on fails, and has the paused clock to itself"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stormhook_engine::Settings;
use stormhook_engine::dispatch::Dispatch;
use stormhook_engine::outcome::Reply;
use stormhook_engine::retry::Retry;
use stormhook_engine::transport::{AttemptRequest, Attempted, Attempting, Destination};
use stormhook_engine::writer::Writer;
use stormhook_store::endpoint::{EndpointChange, Ordering};
use stormhook_store::{
    Accepted, AttemptOutcome, Delivery, DeliveryId, Done, EndpointId, Event, NextStep, Op, Options,
    Reader, Reason, Slot, Status, Store, UpdateEndpoint,
};
use stormhook_testkit::disk::{Disk, Faults};
use stormhook_testkit::samples::{START, event, new_endpoint, settle};

/// The most commits that a test makes.
const COMMITS: u32 = 1_000;
const SLOT: Slot = Slot(0);

/// Receivers that all answer alike.
#[derive(Debug, Default)]
struct Partners {
    /// The sequence and attempt numbers of each request.
    requests: Mutex<Vec<(u64, u32)>>,
    asked: AtomicUsize,
    fails: AtomicBool,
    lacking: AtomicBool,
    /// No connection is made.
    connecting: AtomicBool,
    /// A request is read but not answered.
    hangs: AtomicBool,
}

impl Partners {
    fn requests(&self) -> Vec<(u64, u32)> {
        self.requests.lock().unwrap().clone()
    }
}

impl Destination for Partners {
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Relaxed);
            if self.lacking.load(Relaxed) {
                return Attempted::from(Reply::OurTrouble("no descriptors".to_owned()));
            }
            if self.connecting.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            if !(request.still_wanted)() {
                return Attempted::NotSent;
            }
            let number = |name| request.headers[name].to_str().unwrap().parse().unwrap();
            let seen = (number("x-stormcom-sequence"), number("x-stormcom-attempt"));
            let seen = (seen.0, u32::try_from(seen.1).unwrap());
            self.requests.lock().unwrap().push(seen);
            if self.hangs.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            Attempted::from(Reply::Status {
                code: if self.fails.load(Relaxed) { 500 } else { 204 },
                retry_after: None,
                excerpt: Vec::new(),
            })
        })
    }
}

/// A schedule with two pauses of a second.
fn settings() -> Settings {
    Settings {
        retry: Retry {
            schedule: vec![Duration::from_secs(1); 2],
            jitter: 0.0,
        },
        ..stormhook_simulation::settings()
    }
}

/// A store with one endpoint and some events, one commit each, before an engine runs on it.
struct Made {
    disk: Disk,
    options: Options,
    ids: Vec<DeliveryId>,
    random: u128,
    partners: Arc<Partners>,
    _folder: tempfile::TempDir,
}

impl Made {
    fn new(events: usize, ordering: Ordering) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            // Every page is read from the disk.
            cache_bytes: 0,
            pending_limit: settings().pending_deliveries,
            ..Options::new(folder.path().join("store.redb"))
        };
        let mut made = Self {
            disk: Disk::default(),
            options,
            ids: Vec::new(),
            random: 1,
            partners: Arc::default(),
            _folder: folder,
        };
        let mut new = new_endpoint(EndpointId::new(START, 7), "org", &["*"]);
        new.settings.ordering = ordering;
        made.apply(Op::CreateEndpoint(new.into()));
        for _ in 0..events {
            let Done::Accept(Ok(Accepted {
                event,
                replayed: false,
            })) = made.apply(Op::Accept(event("org", "a.b")))
            else {
                panic!("not accepted");
            };
            made.ids.push(pair(&event));
        }
        made
    }

    fn open(&self) -> Store {
        let disk = self.disk.clone();
        Store::open_on(self.options.clone(), move || disk.open()).unwrap()
    }

    fn apply(&mut self, op: impl Into<Op>) -> Done {
        self.random += 1;
        let applied = self.open().apply(vec![op.into()], START, self.random << 20);
        applied.unwrap().done.pop().unwrap()
    }

    /// The first attempt of each delivery has failed, and the next is due in a second.
    fn failed_once(mut self) -> Self {
        for id in self.ids.clone() {
            let verdict = NextStep::RetryAt(START.plus_ms(1_000));
            self.apply(Op::Settle(Box::new(settle(id, verdict, START))));
        }
        self
    }

    /// Flips a bit of a row.
    fn damage<const N: usize>(&self, table: &str, key: &[u8; N]) {
        let disk = self.disk.open();
        let db = redb::Database::builder().create_with_backend(disk).unwrap();
        let mut txn = db.begin_write().unwrap();
        txn.set_quick_repair(true);
        {
            let table = redb::TableDefinition::<&[u8; N], &[u8]>::new(table);
            let mut table = txn.open_table(table).unwrap();
            let mut row = table.remove(key).unwrap().unwrap().value().to_vec();
            *row.last_mut().unwrap() ^= 1;
            table.insert(key, row.as_slice()).unwrap();
        }
        txn.commit().unwrap();
    }

    fn damage_event(&self, at: usize) {
        self.damage("packs", &self.ids[at].event.0.to_be_bytes());
    }

    fn damage_row(&self, at: usize) {
        let mut key = [0; 20];
        key[..16].copy_from_slice(&self.ids[at].event.0.to_be_bytes());
        self.damage("deliveries", &key);
    }

    /// Starts an engine on it.
    async fn start(&self) -> Core {
        let partners = self.partners.clone();
        let store = self.open();
        let core =
            stormhook_simulation::Core::start(store, settings(), partners, START, COMMITS).await;
        Core {
            reader: core.engine.reader().file().expect("a file").clone(),
            writer: core.engine.writer().clone(),
            dispatch: core.engine.dispatch().clone(),
            commits: core.commits,
        }
    }
}

fn pair(event: &Event) -> DeliveryId {
    DeliveryId {
        event: event.id,
        slot: SLOT,
    }
}

struct Core {
    reader: Reader,
    writer: Arc<Writer>,
    dispatch: Arc<Dispatch>,
    commits: tokio::task::JoinHandle<()>,
}

impl Core {
    fn delivery(&self, id: DeliveryId) -> Delivery {
        self.reader.bare_delivery(id).unwrap().unwrap()
    }

    /// Open deliveries in memory, and in the file.
    fn waits(&self) -> (usize, u64) {
        let gauges = self.dispatch.gauges();
        let waits = gauges.pending + gauges.retrying + gauges.held;
        (waits, self.reader.open_count())
    }

    fn failure_count(&self) -> u32 {
        self.reader.state(SLOT).failure_count
    }

    /// Stops the engine as a daemon does.
    async fn stop(self) {
        self.dispatch.drain();
        self.dispatch.drained().await;
        self.writer.close();
        self.commits.await.unwrap();
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn outcomes(d: &Delivery) -> Vec<AttemptOutcome> {
    d.attempts.iter().map(|a| a.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_event_is_damaged_ends_without_an_attempt_and_the_others_are_whole() {
    let made = Made::new(3, Ordering::Parallel).failed_once();
    made.partners.fails.store(true, Relaxed);
    made.damage_event(1);
    let core = made.start().await;
    pass(60).await;
    let mut requests = made.partners.requests();
    requests.sort_unstable();
    assert_eq!(requests, [(1, 2), (1, 3), (3, 2), (3, 3)]);
    let damaged = core.delivery(made.ids[1]);
    let ended = (damaged.status, damaged.reason, damaged.sequence);
    assert_eq!(ended, (Status::Failed, Some(Reason::Damaged), 2));
    assert_eq!(outcomes(&damaged), [AttemptOutcome::HttpStatus]);
    assert_eq!((damaged.attempts_total, damaged.attempts_finished), (1, 1));
    for at in [0, 2] {
        let d = core.delivery(made.ids[at]);
        assert_eq!((d.status, d.reason), (Status::Abandoned, None));
        assert_eq!(outcomes(&d), [AttemptOutcome::HttpStatus; 3]);
    }
    assert_eq!((core.failure_count(), core.waits()), (7, (0, 0)));
    core.stop().await;
    // Nothing of it returns.
    let core = made.start().await;
    let commit = core.reader.commit();
    // Before the first sweep.
    pass(50).await;
    assert_eq!((core.reader.commit(), core.waits()), (commit, (0, 0)));
    assert_eq!(made.partners.requests().len(), 4);
    core.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fifo_queue_continues_after_a_damaged_event() {
    let made = Made::new(4, Ordering::Fifo);
    made.damage_event(1);
    let core = made.start().await;
    pass(60).await;
    assert_eq!(made.partners.requests(), [(1, 1), (3, 1), (4, 1)]);
    let damaged = core.delivery(made.ids[1]);
    assert_eq!(damaged.reason, Some(Reason::Damaged));
    assert_eq!((damaged.attempts_total, core.failure_count()), (0, 0));
    assert_eq!(core.waits(), (0, 0));
    core.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_row_is_damaged_is_set_aside_for_good_and_the_queue_continues() {
    let made = Made::new(3, Ordering::Fifo).failed_once();
    made.damage_row(0);
    let core = made.start().await;
    pass(60).await;
    assert_eq!(made.partners.requests(), [(2, 2), (3, 2)]);
    assert_eq!((core.failure_count(), core.waits()), (0, (0, 0)));
    core.stop().await;
    let core = made.start().await;
    let commit = core.reader.commit();
    // Before the first sweep.
    pass(50).await;
    assert_eq!((core.reader.commit(), core.waits()), (commit, (0, 0)));
    let damage = core.reader.check().unwrap().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    core.stop().await;
}

/// Returns the offset of the page with a delivery's row, if another delivery's row is on another page.
fn page_of(made: &Made, id: DeliveryId, other: DeliveryId) -> usize {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&id.event.0.to_be_bytes());
    let bytes = made.disk.bytes();
    let pages = bytes.windows(20).enumerate().filter(|(_, at)| *at == key);
    let mut pages: Vec<_> = pages.map(|(at, _)| at / 4096 * 4096).collect();
    pages.dedup();
    let holds = |page: &usize| {
        let mut bytes = bytes.clone();
        bytes[*page] ^= 0x60;
        let disk = Disk::of(bytes);
        let Ok(store) = Store::open_on(made.options.clone(), move || disk.open()) else {
            return false;
        };
        let reader = store.reader();
        reader.bare_delivery(id).is_err() && reader.bare_delivery(other).is_ok()
    };
    pages.into_iter().find(holds).unwrap()
}

#[tokio::test(start_paused = true)]
async fn discarded_deliveries_stay_discarded_although_some_are_on_a_damaged_page() {
    let mut made = Made::new(300, Ordering::Parallel);
    let change = |active, discard_held| {
        let change = EndpointChange {
            active: Some(active),
            discard_held,
            ..EndpointChange::default()
        };
        let (id, change) = (EndpointId::new(START, 7), Box::new(change));
        UpdateEndpoint { id, change }
    };
    made.apply(change(false, false));
    let (first, last) = (made.ids[0], *made.ids.last().unwrap());
    let page = page_of(&made, first, last);
    let core = made.start().await;
    made.disk.flip(page, 0x60);
    let discarded = core.dispatch.update_endpoint(change(true, true));
    discarded.await.unwrap();
    pass(60).await;
    assert_eq!(core.waits().0, 0);
    core.stop().await;
    // Without its bulk change, the file would say that they are all open.
    made.disk.flip(page, 0x60);
    let core = made.start().await;
    pass(60).await;
    assert_eq!(made.partners.requests(), []);
    for id in &made.ids {
        assert_eq!(core.delivery(*id).reason, Some(Reason::Discarded));
    }
    assert_eq!(core.waits(), (0, 0));
    core.stop().await;
}

/// Its first attempt reads no row, so a request is sent. Afterwards there is no row to write its outcome to.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_recorded_is_not_attempted_again_even_after_a_restart() {
    let made = Made::new(3, Ordering::Fifo);
    made.damage_row(0);
    for _ in 0..3 {
        let core = made.start().await;
        pass(60).await;
        assert_eq!(made.partners.requests(), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(core.waits(), (0, 0));
        core.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_cannot_be_read_no_attempt_is_recorded_and_the_schedule_stays_complete() {
    let made = Made::new(40, Ordering::Parallel).failed_once();
    made.partners.fails.store(true, Relaxed);
    let core = made.start().await;
    let broken = Faults {
        reads: 1,
        ..Faults::default()
    };
    made.disk.fail(broken);
    pass(20).await;
    assert_eq!(made.partners.requests(), []);
    made.disk.fail(Faults::default());
    pass(120).await;
    let mut requests = made.partners.requests();
    requests.sort_unstable();
    let expected: Vec<_> = (1..=40).flat_map(|n| [(n, 2), (n, 3)]).collect();
    assert_eq!(requests, expected);
    for id in &made.ids {
        let d = core.delivery(*id);
        assert_eq!((d.status, d.reason), (Status::Abandoned, None));
        assert_eq!(outcomes(&d), [AttemptOutcome::HttpStatus; 3]);
    }
    assert_eq!((core.failure_count(), core.waits()), (120, (0, 0)));
    assert_eq!(core.reader.check().unwrap().damage, [""; 0]);
    core.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_resources_is_not_an_attempt_and_deliveries_keep_their_order() {
    for ordering in [Ordering::Fifo, Ordering::Parallel] {
        let made = Made::new(20, ordering);
        made.partners.lacking.store(true, Relaxed);
        let core = made.start().await;
        let commit = core.reader.commit();
        pass(300).await;
        assert_eq!(made.partners.requests(), []);
        let asked = made.partners.asked.load(Relaxed);
        assert!((10..=50).contains(&asked), "{asked} tries in five minutes");
        assert_eq!(core.waits(), (20, 20));
        let made_since = core.reader.commit() - commit;
        assert!(
            made_since <= 1,
            "{made_since} commits, but only the sweep makes one"
        );
        assert_eq!(core.failure_count(), 0);
        // An operator finds none of them in flight.
        let id = made.ids[3];
        let hold = core.dispatch.hold(id).expect("nothing is on the wire");
        hold.cancel().await.expect("an end");
        made.partners.lacking.store(false, Relaxed);
        pass(31).await;
        let expected: Vec<_> = (1..=20).filter(|n| *n != 4).map(|n| (n, 1)).collect();
        assert_eq!(made.partners.requests(), expected);
        assert_eq!(core.waits(), (0, 0));
        core.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_daemon_does_not_wait_for_deliveries_that_its_own_trouble_holds_back() {
    let made = Made::new(5, Ordering::Parallel).failed_once();
    made.partners.lacking.store(true, Relaxed);
    let core = made.start().await;
    pass(30).await;
    let began = tokio::time::Instant::now();
    core.stop().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    made.partners.lacking.store(false, Relaxed);
    let core = made.start().await;
    pass(5).await;
    assert_eq!((made.partners.requests().len(), core.waits()), (5, (0, 0)));
    core.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_cut_by_a_stop_is_recorded_only_if_its_request_was_sent() {
    for (connects, recorded) in [(false, 0), (true, 1)] {
        let made = Made::new(1, Ordering::Parallel);
        made.partners.connecting.store(!connects, Relaxed);
        made.partners.hangs.store(true, Relaxed);
        let core = made.start().await;
        pass(1).await;
        core.dispatch.drain();
        core.dispatch.cut();
        core.dispatch.drained().await;
        let d = core.delivery(made.ids[0]);
        assert_eq!(outcomes(&d), vec![AttemptOutcome::Interrupted; recorded]);
        assert_eq!(made.partners.requests().len(), recorded);
        core.stop().await;
    }
}

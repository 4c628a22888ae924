//! Nothing grows with deleted or disabled endpoints: neither the rows of tables nor the state in memory.

use crate::endpoint::{EndpointChange, Settings, TypePattern};
use crate::file::memory::Memory;
use crate::maintenance::Swept;
use crate::{
    Accepted, Cancel, DeleteEndpoint, Done, EndpointId, Found, Horizon, NewEndpoint, NewEvent, Op,
    Options, Store, UnixMs, UpdateEndpoint,
};
use redb::ReadableTableMetadata;
use stormhook_verifier::Secret;

struct Fixture {
    _folder: tempfile::TempDir,
    store: Option<Store>,
    options: Options,
    now: UnixMs,
    made: u128,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            pending_limit: 1_000_000,
            endpoints_per_organization: 10,
            ..Options::new(folder.path().join("store.redb"))
        };
        Self {
            _folder: folder,
            store: Some(Store::open(options.clone()).unwrap()),
            options,
            now: UnixMs(1_767_323_045_000),
            made: 0,
        }
    }

    fn reader(&self) -> crate::Reader {
        self.store.as_ref().unwrap().reader()
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.options.clone()).unwrap());
    }

    fn apply(&mut self, ops: Vec<Op>) -> Vec<Done> {
        self.made += 1;
        let store = self.store.as_mut().unwrap();
        store.apply(ops, self.now, self.made << 40).unwrap().done
    }

    fn new_id(&mut self) -> EndpointId {
        self.made += 1;
        EndpointId(self.made)
    }

    fn sweep(&mut self) {
        let mut sweeper = self.reader().sweeper();
        let horizon = Horizon {
            events_before: self.now,
            attempts_before: self.now,
            ..Horizon::default()
        };
        sweeper.begin(horizon, self.now);
        loop {
            match sweeper.step().unwrap() {
                Found::Work(sweep) => {
                    while let [Done::Sweep(Swept { more: true })] =
                        self.apply(vec![Op::Sweep(sweep.clone())])[..]
                    {}
                }
                Found::Nothing => {}
                Found::End => return,
            }
        }
    }

    /// Returns the number of rows kept for endpoints: endpoints, states, revisions, windows.
    fn rows(&self) -> [u64; 4] {
        let views = |views: &crate::file::memory::Snapshot| {
            Ok([
                views.endpoints.len()?,
                views.states.len()?,
                views.revisions.len()?,
                views.windows.len()?,
            ])
        };
        self.reader().shared.view(views).unwrap()
    }

    /// Returns how many endpoints are walked for an event, are listed as deleted, and are kept in memory in each way.
    fn kept(&self) -> [usize; 6] {
        let reader = self.reader();
        let memory: &Memory = &reader.shared.memory();
        [
            memory
                .directory
                .by_organization
                .values()
                .map(Vec::len)
                .sum(),
            memory.directory.deleted.len(),
            memory.directory.deleted_of.len(),
            memory.directory.by_id.len(),
            memory.directory.endpoints.len(),
            memory.directory.states.len(),
        ]
    }
}

fn endpoint(id: EndpointId) -> Op {
    Op::CreateEndpoint(
        NewEndpoint {
            id,
            organization: "org".to_owned(),
            settings: Settings {
                url: "https://partner.example/hooks".to_owned(),
                event_types: vec![TypePattern::All],
                active: true,
                ..Settings::default()
            },
            secret: Secret::from_random(&[1; 32]),
            seed: None,
        }
        .into(),
    )
}

fn order() -> Op {
    Op::Accept(NewEvent {
        organization: "org".to_owned(),
        event_type: "order.created".to_owned(),
        timestamp: None,
        idempotency_key: None,
        data: b"{}".to_vec(),
    })
}

#[test]
fn nothing_grows_with_endpoints_that_were_deleted_once_retention_is_over() {
    let mut fixture = Fixture::new();
    let first = fixture.new_id();
    fixture.apply(vec![endpoint(first)]);
    fixture.sweep();
    let (rows, kept) = (fixture.rows(), fixture.kept());
    assert_eq!(rows, [1, 0, 1, 0]);
    assert_eq!(kept[0], 1);
    for _ in 0..100 {
        let ids: Vec<_> = (0..100).map(|_| fixture.new_id()).collect();
        let ops = ids.iter().flat_map(|id| {
            [
                endpoint(*id),
                Op::DeleteEndpoint(DeleteEndpoint { id: *id }),
            ]
        });
        fixture.apply(ops.collect());
        let reader = fixture.reader();
        let walks = reader
            .bulks()
            .into_iter()
            .map(|(slot, upto)| reader.bulk_walk(slot, upto).unwrap());
        let done = walks.map(|walk| Op::AdvanceBulk(walk.end(false)));
        fixture.apply(done.collect());
    }
    // The writer walks the existing endpoints for an event, immediately and after a restart.
    assert_eq!(fixture.kept()[..3], [1, 10_000, 1]);
    fixture.reopen();
    assert_eq!(fixture.kept()[..3], [1, 10_000, 1]);
    match fixture.apply(vec![order()]).pop() {
        Some(Done::Accept(Ok(Accepted {
            event,
            replayed: false,
        }))) => assert_eq!(event.deliveries, 1),
        other => panic!("{other:?}"),
    }
    fixture.now = fixture.now.plus_ms(1);
    fixture.sweep();
    assert_eq!(fixture.rows(), rows);
    assert_eq!(fixture.kept(), [1, 0, 0, 1, 1, 1]);
    fixture.reopen();
    assert_eq!(fixture.kept(), [1, 0, 0, 1, 1, 1]);
    assert_eq!(fixture.reader().check().unwrap().damage, [""; 0]);
}

#[test]
fn nothing_grows_with_how_often_an_endpoint_was_switched_once_retention_is_over() {
    let mut fixture = Fixture::new();
    let id = fixture.new_id();
    fixture.apply(vec![endpoint(id)]);
    fixture.sweep();
    let rows = fixture.rows();
    for _ in 0..100 {
        // Each change is between two events: those between the same two events are one revision.
        let switch = |active| {
            Op::UpdateEndpoint(UpdateEndpoint {
                id,
                change: Box::new(EndpointChange {
                    active: Some(active),
                    ..EndpointChange::default()
                }),
            })
        };
        let ops = (0..50).flat_map(|_| [switch(false), order(), switch(true), order()]);
        let open: Vec<_> = fixture.apply(ops.collect());
        let ends = open.iter().filter_map(|done| match done {
            Done::Accept(Ok(Accepted {
                event,
                replayed: false,
            })) if event.deliveries == 1 => Some(Op::Cancel(Cancel(crate::DeliveryId {
                event: event.id,
                slot: crate::Slot(0),
            }))),
            _ => None,
        });
        fixture.apply(ends.collect());
    }
    assert_eq!(fixture.rows()[2], 10_000);
    fixture.now = fixture.now.plus_ms(1);
    fixture.sweep();
    assert_eq!(fixture.rows(), rows);
    assert_eq!(fixture.reader().check().unwrap().damage, [""; 0]);
}

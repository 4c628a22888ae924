//! A store in a folder of its own, driven as the daemon's writer does: each commit gets a batch, a time and a random
//! number.

use super::fixture::{self, Draw, NOW};
use bytes::Bytes;
use std::path::Path;
use stormhook_store::{
    Applied, Change, DeliveryId, EndpointId, Horizon, NewEndpoint, Op, Options, Store, UnixMs,
};
use stormhook_testkit::samples;
use stormhook_verifier::Secret;
use tempfile::TempDir;

pub(crate) struct StoreFixture {
    store: Store,
    requests: Vec<Bytes>,
    next: usize,
    now: UnixMs,
    draw: Draw,
    // Dropped last: the store still writes when it closes.
    _folder: TempDir,
}

impl StoreFixture {
    /// Creates a store under `parent` with one endpoint for each of this many organizations.
    pub(crate) fn new(parent: &Path, endpoints: usize) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("a folder");
        let options = Options {
            cache_bytes: 64 << 20,
            ..Options::new(folder.path().join("store.redb"))
        };
        let mut bed = Self {
            store: Store::open(options).expect("a new store"),
            requests: fixture::requests(endpoints),
            next: 0,
            now: NOW,
            draw: Draw::seeded(7),
            _folder: folder,
        };
        let organizations = fixture::organizations(endpoints);
        let create = organizations.into_iter().map(|organization| {
            let id = EndpointId::new(NOW, bed.draw.wide());
            Op::CreateEndpoint(new_endpoint(id, &organization).into())
        });
        let create = create.collect();
        bed.apply(create);
        bed
    }

    pub(crate) fn apply(&mut self, ops: Vec<Op>) -> Applied {
        self.now = self.now.plus_ms(1);
        let random = self.draw.wide();
        self.store.apply(ops, self.now, random).expect("a commit")
    }

    /// Returns the next `count` events to accept.
    pub(crate) fn accepts(&mut self, count: usize) -> Vec<Op> {
        let from = self.next;
        self.next += count;
        let requests = self
            .requests
            .iter()
            .cycle()
            .skip(from % self.requests.len());
        requests
            .take(count)
            .map(|request| Op::Accept(fixture::read(request)))
            .collect()
    }

    /// Accepts this many events and returns their deliveries.
    pub(crate) fn deliveries(&mut self, count: usize) -> Vec<DeliveryId> {
        let ops = self.accepts(count);
        let opened = Self::opened(self.apply(ops));
        assert_eq!(opened.len(), count, "each event goes to one endpoint");
        opened
    }

    /// Returns the deliveries that a commit created.
    pub(crate) fn opened(applied: Applied) -> Vec<DeliveryId> {
        let changes = applied.changes.into_iter();
        changes
            .filter_map(|change| match change {
                Change::Waiting(waiting) => Some(waiting.id),
                _ => None,
            })
            .collect()
    }

    /// Returns the next sweep, if everything accepted so far were past its retention.
    pub(crate) fn sweep(&self) -> Option<Op> {
        let before = self.now.plus_ms(1);
        let horizon = Horizon {
            events_before: before,
            attempts_before: before,
            ..Horizon::default()
        };
        let mut sweeper = self.store.reader().sweeper();
        sweeper.begin(horizon, before);
        let found = sweeper.find().expect("the file can be read");
        found.map(Op::Sweep)
    }

    /// Returns successful outcomes of these deliveries, to be recorded.
    pub(crate) fn settles(&self, deliveries: &[DeliveryId]) -> Vec<Op> {
        deliveries
            .iter()
            .map(|id| Op::Settle(Box::new(fixture::settle(*id, self.now))))
            .collect()
    }
}

fn new_endpoint(id: EndpointId, organization: &str) -> NewEndpoint {
    NewEndpoint {
        secret: Secret::parse(fixture::SECRET).expect("a secret"),
        ..samples::new_endpoint(id, organization, &["*"])
    }
}

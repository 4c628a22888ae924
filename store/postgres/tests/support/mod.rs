//! The suite's fixture on a PostgreSQL server of the test's own, or in a schema of its own in a database that is given.

#![allow(
    dead_code,
    unused_imports,
    reason = "the suite for the file uses more of it"
)]

#[path = "../../../tests/support/fixture.rs"]
mod fixture;
#[path = "../../../tests/support/history.rs"]
pub(crate) mod history;
mod reader;

use crate::proxy::Proxy;
pub(crate) use fixture::*;
pub(crate) use reader::Reader;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use stormhook_postgres::Store;
use stormhook_store::{Applied, Found, Horizon, Op, QueueEntry, StoreError, UnixMs};
use stormhook_test_postgres::Server;
pub(crate) use stormhook_testkit::random::Random;
pub(crate) use stormhook_testkit::samples::*;
use tokio::runtime::Runtime;

/// The limits that the suite changes. Folds are the file's own.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) pending_limit: u64,
    pub(crate) endpoints_per_organization: usize,
    pub(crate) idempotency_ttl_ms: u64,
    pub(crate) fold_items: usize,
    pub(crate) fold_commits: u64,
}

/// A store with a clock that moves only when told to.
pub(crate) struct Fixture {
    store: Option<Store>,
    pub(crate) options: stormhook_postgres::Options,
    pub(crate) now: UnixMs,
    pub(crate) random: Random,
    pub(crate) runtime: Arc<Runtime>,
    proxy: Option<Proxy>,
    // Last: it ends after its connections.
    place: Arc<Place>,
}

/// Where the database is.
enum Place {
    Own(Server),
    /// One that is given, with the schema to drop from it.
    Given {
        url: String,
        schema: String,
    },
}

impl Place {
    /// `STORMHOOK_TEST_DATABASE` names a database, for `scripts/conformance`.
    fn choose() -> Self {
        match std::env::var("STORMHOOK_TEST_DATABASE") {
            Ok(url) => {
                let random = RandomState::new().hash_one(&url);
                let schema = format!("stormhook_test_{random:x}");
                Self::Given { url, schema }
            }
            Err(_) => Self::Own(Server::start()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self::Given { url, schema } = self else {
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // What is left over is in nobody's way.
        let _dropped = runtime.expect("a runtime").block_on(async {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
            client.batch_execute(&drop).await
        });
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::made(change, |_, _| None)
    }

    /// With a proxy between the store and its server.
    pub(crate) fn behind(proxy: impl FnOnce(&Server, &Runtime) -> Proxy) -> Self {
        Self::made(|_| {}, |server, runtime| Some(proxy(server, runtime)))
    }

    fn made(
        change: impl FnOnce(&mut Options),
        proxy: impl FnOnce(&Server, &Runtime) -> Option<Proxy>,
    ) -> Self {
        let place = Place::choose();
        let mut asked = Options {
            pending_limit: 1_000_000,
            endpoints_per_organization: 1_000,
            idempotency_ttl_ms: DAY_MS,
            fold_items: 0,
            fold_commits: 0,
        };
        change(&mut asked);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = Arc::new(runtime.expect("a runtime"));
        let (proxy, url, schema) = match &place {
            Place::Given { url, schema } => (None, url.clone(), schema.clone()),
            Place::Own(server) => {
                let proxy = proxy(server, &runtime);
                let folder = proxy.as_ref().map_or(server.folder(), Proxy::folder);
                let url = Server::url_of(folder);
                (proxy, url, "stormhook".to_owned())
            }
        };
        let options = stormhook_postgres::Options {
            pending_limit: asked.pending_limit,
            endpoints_per_organization: asked.endpoints_per_organization,
            idempotency_ttl_ms: asked.idempotency_ttl_ms,
            schema,
            ..stormhook_postgres::Options::new(url)
        };
        let store = runtime.block_on(async {
            stormhook_postgres::migrate(&options).await?;
            Store::open(options.clone()).await
        });
        Self {
            store: Some(store.expect("a new store")),
            options,
            now: START,
            random: Random::seeded(7),
            runtime,
            proxy,
            place: Arc::new(place),
        }
    }

    /// Opens the same database as another daemon would.
    pub(crate) fn second(&self) -> Self {
        let store = self.runtime.block_on(Store::open(self.options.clone()));
        Self {
            store: Some(store.expect("it opens")),
            options: self.options.clone(),
            now: self.now,
            random: Random::seeded(8),
            runtime: Arc::clone(&self.runtime),
            proxy: None,
            place: Arc::clone(&self.place),
        }
    }

    /// Opens the same database as another daemon does beside this one.
    pub(crate) fn other(&self, daemon: u128) -> Self {
        let options = stormhook_postgres::Options {
            daemon: uuid::Uuid::from_u128(daemon),
            ..self.options.clone()
        };
        let store = self.runtime.block_on(Store::open(options.clone()));
        Self {
            store: Some(store.expect("it opens")),
            options,
            now: self.now,
            random: Random::seeded(u64::try_from(daemon).expect("a small number")),
            runtime: Arc::clone(&self.runtime),
            proxy: None,
            place: Arc::clone(&self.place),
        }
    }

    /// Runs statements of the test's own.
    pub(crate) fn sql(&self, statements: &str) {
        self.with_client(async |client| {
            client.batch_execute(statements).await.expect("they run");
        });
    }

    /// Does work on a connection of the test's own.
    pub(crate) fn with_client(&self, work: impl AsyncFnOnce(&tokio_postgres::Client)) {
        let url = self.options.url.clone();
        self.runtime.block_on(async {
            let connecting = tokio_postgres::connect(&url, tokio_postgres::NoTls);
            let (client, connection) = connecting.await.expect("a connection");
            let driven = tokio::spawn(connection);
            work(&client).await;
            drop(client);
            driven.await.expect("it ends").expect("it ends well");
        });
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("there is one")
    }

    fn server(&mut self) -> &mut Server {
        match Arc::get_mut(&mut self.place).expect("it is this fixture's alone") {
            Place::Own(server) => server,
            Place::Given { .. } => panic!("this test needs a server of its own"),
        }
    }

    /// The server ends as by a crash, and starts again.
    pub(crate) fn crash(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Keeps what the server has, and returns it to that later: it loses the commits in between.
    pub(crate) fn server_keeps(&mut self) {
        self.server().keep();
    }

    pub(crate) fn lose(&mut self) {
        self.server().lose();
    }

    pub(crate) fn stop(&mut self) {
        self.server().stop();
    }

    pub(crate) fn start_again(&mut self) {
        self.server().start_again();
    }

    pub(crate) fn resolve(&mut self) -> Result<Option<Applied>, StoreError> {
        let runtime = Arc::clone(&self.runtime);
        runtime.block_on(self.store().resolve_in_doubt())
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("it is open")
    }

    /// Takes the store out, for a call that the test doesn't see through.
    pub(crate) fn take(&mut self) -> Store {
        self.store.take().expect("it is open")
    }

    pub(crate) fn reader(&self) -> Reader {
        let reader = self.store.as_ref().expect("it is open").reader();
        Reader::new(reader, Arc::clone(&self.runtime))
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    /// Ends as a daemon does that is stopped in order.
    pub(crate) fn stop_daemon(&mut self) {
        let now = self.now;
        let random = u128::from(self.random.next());
        let runtime = Arc::clone(&self.runtime);
        let left = runtime.block_on(self.store().leave(now, random));
        left.expect("it leaves");
        self.close();
    }

    pub(crate) fn reopen(&mut self) {
        self.close();
        let store = self.runtime.block_on(Store::open(self.options.clone()));
        self.store = Some(store.expect("it opens again"));
    }

    /// Commits a batch.
    pub(crate) fn commit(
        &mut self,
        ops: Vec<Op>,
        now: UnixMs,
        random: u128,
    ) -> Result<Applied, StoreError> {
        let runtime = Arc::clone(&self.runtime);
        runtime.block_on(self.store().apply(ops, now, random))
    }

    /// Makes a pass of the sweep.
    pub(crate) fn sweep(&mut self, horizon: Horizon) {
        let runtime = Arc::clone(&self.runtime);
        let mut sweeper = self.store().reader().sweeper();
        sweeper.begin(horizon, self.now);
        for _ in 0..1_000 {
            match runtime.block_on(sweeper.step()).expect("a step") {
                Found::Work(sweep) => drop(self.one(Op::Sweep(sweep))),
                Found::Nothing => {}
                Found::End => return,
            }
        }
        panic!("the pass does not end");
    }

    /// Returns the partitions of a table, in order.
    pub(crate) fn partitions(&self, of: &str) -> Vec<String> {
        let of = format!("'stormhook.{of}'::regclass");
        self.texts(&format!(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = {of} ORDER BY 1"
        ))
    }

    /// Returns how many rows a table has.
    pub(crate) fn rows(&self, of: &str) -> usize {
        let found = self.texts(&format!("SELECT count(*)::text FROM stormhook.{of}"));
        found[0].parse().expect("a number")
    }

    /// Asks a question of the test's own, whose answer is a column of texts.
    fn texts(&self, question: &str) -> Vec<String> {
        let url = self.options.url.clone();
        self.runtime.block_on(async {
            let connecting = tokio_postgres::connect(&url, tokio_postgres::NoTls);
            let (client, connection) = connecting.await.expect("a connection");
            tokio::spawn(connection);
            let rows = client.query(question, &[]).await.expect("an answer");
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    pub(crate) fn open(&mut self) -> Vec<QueueEntry> {
        let mut open = Vec::new();
        let runtime = Arc::clone(&self.runtime);
        let read = runtime.block_on(self.store().open_deliveries(|entry| open.push(entry)));
        read.expect("they can be read");
        open
    }
}

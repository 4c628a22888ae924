//! Daemons on one database, in simulated time from a seed: the real engine on the real store of `store/postgres`, with its
//! driver, on a database in memory that speaks PostgreSQL's protocol. Daemons are killed, paused and cut off, connections
//! end with what is on them, the database restarts, daemons come and go.

mod calls;
mod daemon;
mod database;
mod faults;
mod oracle;
mod plan;
mod receivers;
mod stage;
mod wire;

pub use oracle::Tally;
pub use plan::Mix;

use daemon::{Daemon, End, Setup};
use database::Database;
use oracle::Oracle;
use plan::Plan;
use receivers::Receivers;
use stage::{Shared, Stage, with};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use stormhook_testkit::random::Random;

/// How far time moves at once, in milliseconds: a round trip to the database takes two of these.
const TICK_MS: u64 = 5;
/// The same once all faults are over.
const QUIET_TICK_MS: u64 = 20;
/// How long all deliveries may take to end once all faults are over.
const MOST_TO_END_MS: u64 = 300_000;
/// How long a daemon may take to notice that others have taken over, while it can reach the database.
const NOTICES_MS: u64 = 30_000;

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// A hash of everything that happened, in order.
    pub trace: u64,
    /// What was counted.
    pub tally: Tally,
    /// The faults that it had.
    pub mix: Mix,
    /// The violation of the contract, with the events before it.
    pub violation: Option<String>,
}

/// See the module.
struct World {
    plan: Plan,
    random: Random,
    shared: Shared,
    now_ms: u64,
    /// By the numbers of their data directories.
    daemons: BTreeMap<u64, Daemon>,
    /// When the daemon of a data directory starts again.
    starts: BTreeMap<u64, u64>,
    next_life: u64,
    next_event: u64,
    /// Until when a life can't reach the database.
    islands: BTreeMap<u64, u64>,
    /// Until when the database is slow.
    slow_until_ms: u64,
    endpoints: u64,
}

/// Runs a seed. `verbose` prints everything that happens.
#[must_use]
pub fn run(seed: u64, verbose: bool) -> Report {
    crate::run::watch_panics();
    let mut world = World::new(seed, verbose);
    world.chaos();
    world.heal();
    let (tables, now_ms) = (
        with(&world.shared, |stage| stage.database.tables.clone()),
        world.now_ms,
    );
    with(&world.shared, |stage| {
        let oracle = &mut stage.oracle;
        if crate::run::panics() > 0 {
            oracle.violated("a task panicked");
        }
        if oracle.violation().is_none() {
            oracle.finish(&tables);
        }
        oracle.tally.idle_ended = stage.database.idle_ended;
        oracle.tally.simulated_ms = now_ms;
        Report {
            trace: oracle.trace(),
            tally: oracle.tally,
            mix: world.plan.mix,
            violation: oracle.violation().map(str::to_owned),
        }
    })
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut random = Random::seeded(seed);
        let plan = Plan::of(&mut random);
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let lease_ms = plan.lease_ms() as f64;
        let mut oracle = Oracle::new(lease_ms, plan.attempts());
        oracle.notes.verbose = verbose;
        oracle.note(format!("{plan:?}"));
        let stage = Stage {
            database: Database::new(Random::seeded(random.next())),
            receivers: Receivers::new(plan.receivers, Random::seeded(random.next())),
            oracle,
        };
        Self {
            starts: (0..plan.daemons).map(|number| (number, 0)).collect(),
            plan,
            random,
            shared: Arc::new(Mutex::new(stage)),
            now_ms: 0,
            daemons: BTreeMap::new(),
            next_life: 0,
            next_event: 0,
            islands: BTreeMap::new(),
            slow_until_ms: 0,
            endpoints: 0,
        }
    }

    fn note(&self, what: String) {
        with(&self.shared, |stage| stage.oracle.note(what));
    }

    fn is_over(&self) -> bool {
        with(&self.shared, |stage| stage.oracle.violation().is_some()) || crate::run::panics() > 0
    }

    /// Faults happen, and events are sent.
    fn chaos(&mut self) {
        while self.now_ms < self.plan.chaos_ms && !self.is_over() {
            if self.happens(self.plan.fault_every_ms) {
                faults::strike(self);
            }
            if self.happens(self.plan.event_every_ms) {
                calls::send_event(self);
            }
            if self.endpoints < 2 * self.plan.organizations && self.happens(100) {
                calls::create_endpoint(self);
            }
            self.tick(TICK_MS);
        }
    }

    /// Ends all faults and waits until all deliveries have ended, and all daemons that others have taken over from.
    fn heal(&mut self) {
        faults::end_all(self);
        let from_ms = self.now_ms;
        while !self.is_over() {
            self.tick(QUIET_TICK_MS);
            let passed_ms = self.now_ms - from_ms;
            let lives: Vec<u64> = self.daemons.values().map(|d| d.setup.life).collect();
            let (open, fenced) = with(&self.shared, |stage| {
                let open = stage.oracle.has_open(&stage.database.tables);
                let mut lives = lives.into_iter();
                (open, lives.find(|life| stage.oracle.is_fenced(*life)))
            });
            if let Some(life) = fenced.filter(|_| passed_ms > NOTICES_MS) {
                with(&self.shared, |stage| {
                    let what = "others have taken over from it, and it goes on";
                    stage.oracle.violated(format!("{life}: {what}"));
                });
            }
            let settled = !open && fenced.is_none() && passed_ms > 2 * self.plan.lease_ms();
            if settled || passed_ms > MOST_TO_END_MS {
                return;
            }
        }
    }

    /// Whether something happens in this tick that happens once in so many milliseconds.
    fn happens(&mut self, every_ms: u64) -> bool {
        self.random.below(every_ms) < TICK_MS
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        let due = |start_ms: &u64| *start_ms <= now_ms;
        let starts: Vec<u64> = self
            .starts
            .iter()
            .filter(|(_, at)| due(at))
            .map(|(n, _)| *n)
            .collect();
        for number in starts {
            self.starts.remove(&number);
            self.start(number);
        }
        self.islands.retain(|_, until_ms| *until_ms > now_ms);
        let is_slow = self.slow_until_ms > now_ms;
        with(&self.shared, |stage| {
            let Stage {
                database, oracle, ..
            } = stage;
            oracle.now_ms = now_ms;
            database.slow_ms = if is_slow { 1_500 } else { 0 };
            database.tick(now_ms, |life| !self.islands.contains_key(&life), oracle);
        });
        let numbers: Vec<u64> = self.daemons.keys().copied().collect();
        for number in numbers {
            let daemon = self.daemons.get_mut(&number).expect("a daemon");
            daemon.run_until(now_ms);
            if let Some(end) = daemon.end() {
                self.ended(number, end);
            }
        }
    }

    fn start(&mut self, number: u64) {
        let life = self.next_life;
        self.next_life += 1;
        let setup = Setup {
            number,
            life,
            settings: Arc::clone(&self.plan.settings),
            lease: self.plan.lease,
            attempt_timeout: self.plan.attempt_timeout,
            room_bytes: [700, 1 << 20][usize::try_from(self.random.below(2)).unwrap()],
            seed: self.random.next(),
        };
        self.note(format!("daemon {number} starts as {life}"));
        with(&self.shared, |stage| stage.oracle.begins(life));
        let daemon = Daemon::start(setup, &self.shared, self.now_ms);
        self.daemons.insert(number, daemon);
    }

    /// A daemon has ended by itself. Its supervisor starts it again, unless it was told to stop.
    fn ended(&mut self, number: u64, end: End) {
        let Some(daemon) = self.daemons.remove(&number) else {
            return;
        };
        let taken_over = end == End::TakenOver;
        with(&self.shared, |stage| {
            stage.oracle.ended(daemon.setup.life, taken_over);
        });
        let after_ms = 100
            + self
                .random
                .below(if daemon.is_stopping { 10_000 } else { 3_000 });
        self.starts.insert(number, self.now_ms + after_ms);
    }
}

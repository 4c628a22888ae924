//! One life of the daemon's core, assembled as in `serve` but without listeners. The writer's commits are made inline.

use crate::faults;
use crate::oracle::Oracle;
use crate::partners::Network;
use crate::plan::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::producers;
use crate::run::World;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_engine::dispatch::OnCommit;
use stormhook_engine::lifecycle::Phase;
use stormhook_engine::writer::{Committed, Committer, Space, Writer};
use stormhook_engine::{Engine, Ports};
use stormhook_store::{Applied, DeliveryId, Store};
use stormhook_testkit::disk::Disk;
use stormhook_testkit::random::Random;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long all deliveries may take to end once all faults are over.
const MOST_TO_END_MS: u64 = 3 * DAY_MS;
/// How long an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The bytes that are kept free on the disk.
const DISK_RESERVE_BYTES: u64 = 1 << 20;
/// Steps between two checks of everything.
const LOOK_EVERY: u64 = 64;

/// How a life ended.
pub(crate) enum End {
    /// By a power failure.
    Crashed,
    /// By an orderly stop.
    Stopped,
    /// All deliveries have ended, or something violated the contract.
    Finished,
    /// The daemon did not start.
    Refused(String),
}

/// The observer between the writer and the dispatch.
struct CommitObserver {
    disk: Disk,
    oracle: Arc<Mutex<Oracle>>,
    dispatch: OnCommit,
}

impl CommitObserver {
    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Committed for CommitObserver {
    fn committed(&self, applied: &mut Applied, settled: &[Option<DeliveryId>]) {
        if self.disk.power_is_gone() {
            self.oracle().dead = true;
            return;
        }
        // The oracle's own reads are not under test here.
        self.disk
            .without_faults(|| self.oracle().committed(applied, settled));
        self.dispatch.committed(applied, settled);
    }

    fn set_aside(&self, delivery: DeliveryId, damage: &str) {
        self.oracle().set_aside(delivery, damage);
        self.dispatch.set_aside(delivery, damage);
    }

    fn failing(&self, failing: bool) {
        {
            let mut oracle = self.oracle();
            oracle.note(format!("commits fail: {failing}"));
            oracle.tally.failed_commits += u64::from(failing);
        }
        self.dispatch.failing(failing);
    }
}

/// See the module.
pub(crate) struct Life {
    pub(crate) engine: Engine,
    writing: JoinHandle<()>,
    dead: Arc<Notify>,
}

impl Life {
    /// Starts the daemon on the disk in its current state.
    pub(crate) async fn begin(world: &mut World, crashed: bool) -> Result<Self, String> {
        let disk = world.disk.clone();
        let store = Store::open_on(world.plan.options(), move || disk.open());
        let store = store.map_err(|e| e.to_string())?;
        let life = Arc::new(stormhook_engine::lifecycle::Lifecycle::default());
        let network = Network {
            partners: Arc::clone(&world.partners),
            timeout: TIMEOUT,
        };
        let ports = Ports {
            store: store.into(),
            environment: Arc::clone(world.environment()) as _,
            transport: Arc::new(network),
            settings: Arc::new(Arc::clone(&world.plan.settings)),
            life: Arc::clone(&life),
        };
        let loaded = Engine::load(ports).await.map_err(|e| e.to_string())?;
        world.disk.fill_up(false);
        let (reader, clock) = (loaded.engine().reader(), loaded.engine().clock());
        let reader = reader.file().ok_or("the store is not a file")?;
        world.disk.without_faults(|| {
            let mut oracle = world.oracle();
            oracle.begins(reader.clone(), Arc::clone(clock), crashed);
        });
        let told = |dispatch| {
            Arc::new(CommitObserver {
                disk: world.disk.clone(),
                oracle: Arc::clone(&world.oracle),
                dispatch,
            }) as Arc<dyn Committed>
        };
        let (disk, most) = (world.disk.clone(), world.plan.disk_bytes);
        let look = move || Space {
            free_bytes: most.saturating_sub(disk.len() + DISK_RESERVE_BYTES),
            file_bytes: disk.len(),
        };
        let (engine, committer) = loaded.start(told, look);
        let dead = Arc::new(Notify::new());
        let writing = tokio::spawn(write(
            Arc::clone(engine.writer()),
            committer,
            world.disk.clone(),
            Arc::clone(&world.oracle),
            Random::seeded(world.random.next()),
            Arc::clone(&dead),
        ));
        life.go_on_to(Phase::Running);
        Ok(Self {
            engine,
            writing,
            dead,
        })
    }

    /// Runs steps until the power fails, the daemon is told to stop, or the plan is done.
    pub(crate) async fn live(self, world: &mut World) -> End {
        while world.steps_left > 0 {
            world.steps_left -= 1;
            if world.oracle().run_is_over() {
                return End::Finished;
            }
            if world.random.one_in(10) {
                faults::strike(world);
            } else {
                producers::act(world, &self.engine);
            }
            if self.passes(pause(&mut world.random)).await {
                return self.crashed(world);
            }
            if self.takes_no_commit(world) {
                self.stop(world).await;
                return End::Finished;
            }
            if world.random.one_in(LOOK_EVERY) {
                self.look(world);
            }
            if world.plan.mix.crashes && world.random.one_in(100) {
                return self.crashed(world);
            }
            if world.random.one_in(150) {
                return self.stop(world).await;
            }
        }
        self.stop(world).await
    }

    /// Ends all faults, after which every delivery must end.
    pub(crate) async fn finish(self, world: &mut World) -> End {
        faults::heal_disk(world);
        world.partners.heal();
        world.oracle().note("all faults are over");
        let from_ms = world.oracle().now_ms();
        let mut quiet = false;
        while !quiet && !world.oracle().run_is_over() {
            let passed = world.oracle().now_ms() - from_ms;
            if passed > MOST_TO_END_MS {
                let waits = self.gauges();
                let only_held = (waits.pending, waits.retrying, waits.in_flight) == (0, 0, 0);
                if only_held && world.oracle().holds_for_damage() {
                    self.stop(world).await;
                    return End::Finished;
                }
                world
                    .oracle()
                    .violated(format!("open deliveries do not end: {waits:?}"));
                return End::Finished;
            }
            let step_ms = if passed < HOUR_MS {
                10 * SECOND_MS
            } else {
                HOUR_MS
            };
            if self.takes_no_commit(world) {
                self.stop(world).await;
                return End::Finished;
            }
            producers::switch_on_all(world, &self.engine);
            if self.passes(Duration::from_millis(step_ms)).await {
                return End::Finished;
            }
            quiet = world.oracle().is_quiet() && passed > MINUTE_MS;
        }
        self.look(world);
        if self.engine.writer().is_failing() {
            world.oracle().violated("commits still fail");
        }
        world.oracle().expect_touched_ended();
        self.stop(world).await;
        // The stopped daemon must leave what was announced.
        match Self::begin(world, false).await {
            Ok(again) => again.look(world),
            Err(why) => world
                .oracle()
                .violated(format!("the daemon does not start again: {why}")),
        }
        End::Finished
    }

    /// Whether the file is damaged where every commit needs it. Then the daemon accepts nothing, and reports that.
    fn takes_no_commit(&self, world: &World) -> bool {
        let ready = || self.engine.readiness();
        world.oracle().is_damaged() && ready().is_err_and(|why| why.contains("damaged"))
    }

    fn gauges(&self) -> stormhook_engine::schedule::Gauges {
        self.engine.dispatch().gauges()
    }

    fn look(&self, world: &World) {
        // While commits fail, the file may not be open.
        if self.engine.writer().is_failing() || world.disk.power_is_gone() {
            return;
        }
        let look = || world.oracle().look_through(Some(self.gauges()));
        world.disk.without_faults(look);
    }

    /// Lets time pass. Returns true if the power failed meanwhile.
    async fn passes(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.dead.notified() => true,
            () = sleep(time) => false,
        }
    }

    fn crashed(self, world: &World) -> End {
        let mut oracle = world.oracle();
        oracle.dead = true;
        oracle.tally.crashes += 1;
        oracle.note("crash");
        End::Crashed
    }

    async fn stop(self, world: &World) -> End {
        world.oracle().note("stop");
        let stopping = async {
            self.engine.drain(std::future::pending()).await;
            self.engine.close();
            self.writing.await.expect("the writer does not panic");
        };
        let dead = tokio::select! {
            biased;
            () = self.dead.notified() => true,
            () = stopping => false,
        };
        let mut oracle = world.oracle();
        if dead || self.engine.writer().is_failing() {
            oracle.dead = true;
            oracle.tally.crashes += 1;
            return End::Crashed;
        }
        oracle.tally.stops += 1;
        End::Stopped
    }
}

/// The writer's thread, as a task: commits the queued operations, with simulated time for each commit.
async fn write(
    writer: Arc<Writer>,
    mut committer: Committer,
    disk: Disk,
    oracle: Arc<Mutex<Oracle>>,
    mut random: Random,
    dead: Arc<Notify>,
) {
    let is_over = || {
        let mut oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
        oracle.dead |= disk.power_is_gone();
        oracle.dead || oracle.run_is_over()
    };
    let over = async || {
        if is_over() {
            dead.notify_one();
            std::future::pending::<()>().await;
        }
    };
    while writer.work().await {
        let takes_us = match random.below(200) {
            0 => 2_000_000,
            1..20 => random.below(50_000),
            _ => random.below(3_000),
        };
        sleep(Duration::from_micros(takes_us)).await;
        committer.commit_queued();
        over().await;
    }
    committer.finish();
    over().await;
}

fn pause(random: &mut Random) -> Duration {
    let ms = match random.below(100) {
        0..50 => random.below(20),
        50..80 => random.below(2 * SECOND_MS),
        80..95 => random.below(10 * MINUTE_MS),
        _ => random.below(12 * HOUR_MS),
    };
    Duration::from_millis(ms)
}

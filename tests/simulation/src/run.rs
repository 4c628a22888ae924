//! One run: lives of the daemon one after another on the same disk, until its plan is done and all deliveries have
//! ended.

use crate::damage;
use crate::environment::Simulated;
use crate::faults;
use crate::life::{End, Life};
use crate::oracle::Oracle;
use crate::partners::Partners;
use crate::plan::{HOUR_MS, MINUTE_MS, Mix, Plan, SECOND_MS};
use crate::producers::Memory;
use crate::tally::Tally;
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;
use stormhook_store::UnixMs;
use stormhook_testkit::disk::Disk;
use stormhook_testkit::random::Random;

/// 2026-01-02T03:04:05Z.
const START_MS: u64 = 1_767_323_045_000;
/// The most lives of one run.
const LIVES: u64 = 12;

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

/// Everything that outlives the process.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) disk: Disk,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    pub(crate) partners: Arc<Partners>,
    /// Of the current life.
    environment: Option<Arc<Simulated>>,
    /// The difference between the wall clock and one without jumps.
    pub(crate) wall_offset_ms: i64,
    pub(crate) steps_left: u64,
    /// What callers remember.
    pub(crate) memory: Memory,
    /// The file before and after it was damaged, and the faults there had been.
    damage: Option<(Vec<u8>, Vec<u8>, Mix)>,
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut random = Random::seeded(seed);
        let plan = Plan::of(&mut random);
        let mut oracle = Oracle::new(plan.clone());
        oracle.notes.verbose = verbose;
        oracle.note(format!("{plan:?}"));
        let oracle = Arc::new(Mutex::new(oracle));
        let theirs = Random::seeded(random.next());
        let partners = Partners::new(plan.partners, theirs, Arc::clone(&oracle));
        let disk = Disk::default();
        disk.seed(random.next());
        disk.limit(Some(plan.disk_bytes));
        Self {
            steps_left: plan.steps,
            plan,
            random,
            disk,
            oracle,
            partners: Arc::new(partners),
            environment: None,
            wall_offset_ms: 0,
            memory: Memory::default(),
            damage: None,
        }
    }

    pub(crate) fn environment(&self) -> &Arc<Simulated> {
        self.environment.as_ref().expect("a life has begun")
    }

    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wall(&self) -> UnixMs {
        let now_ms = START_MS + self.oracle().now_ms();
        UnixMs(now_ms.saturating_add_signed(self.wall_offset_ms))
    }

    /// Makes the wall clock jump.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
        let mut oracle = self.oracle();
        oracle.tally.jumps += 1;
        oracle.note(format!("the clock jumps by {by_ms} ms"));
        if let Ok(ahead) = u64::try_from(by_ms) {
            oracle.jumps_ahead(ahead);
        }
    }

    fn is_broken(&self) -> bool {
        self.oracle().run_is_over()
    }

    /// The disk damages the file. From now on nothing else goes wrong.
    fn damage(&mut self) {
        let sound = self.disk.bytes();
        let mut bytes = sound.clone();
        // Much of a file is unused: most damage hits nothing.
        for _ in 0..=self.random.below(4) {
            let what = damage::strike(&mut bytes, &mut self.random);
            self.oracle().note(what);
        }
        self.disk.replace(bytes.clone());
        faults::heal_disk(self);
        self.oracle().damaged();
        self.damage = Some((sound, bytes, self.plan.mix));
        self.plan.mix = Mix {
            clock: self.plan.mix.clock,
            ..Mix::default()
        };
    }

    /// A damaged file that was refused must be unchanged, byte for byte. Then a backup replaces it.
    fn refused_damage(&mut self, why: &str) {
        let Some((sound, bytes, mix)) = self.damage.take() else {
            return;
        };
        let mut oracle = self.oracle();
        oracle.note(format!("the damaged file is refused: {why}"));
        oracle.tally.damage_refused += 1;
        if self.disk.bytes() != bytes {
            oracle.violated(format!("a refused start changed the file: {why}"));
        }
        oracle.restored();
        drop(oracle);
        self.disk.replace(sound);
        self.plan.mix = mix;
    }

    /// One life, on a runtime of its own. Its memory is lost with it.
    fn live(&mut self, crashed: bool, last: bool) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let wall = self.wall();
            let simulated = Simulated::new(wall, self.random.next());
            self.environment = Some(Arc::new(simulated));
            let end = match Life::begin(self, crashed).await {
                Ok(life) if last => life.finish(self).await,
                Ok(life) => life.live(self).await,
                Err(why) => End::Refused(why),
            };
            let away = match self.random.below(4) {
                0 => 1 + self.random.below(12 * HOUR_MS),
                1 => MINUTE_MS,
                _ => 1 + self.random.below(5 * SECOND_MS),
            };
            self.oracle()
                .ends(Duration::from_millis(away), matches!(end, End::Stopped));
            end
        })
    }
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
    /// Whether the file is damaged.
    static DAMAGED: Cell<bool> = const { Cell::new(false) };
}

/// A task that panics ends alone; this makes it noticed.
pub(crate) fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // redb panics over damaged pages, and the store reports that as damage.
            let engine = info.location().is_some_and(|at| at.file().contains("redb"));
            if !(engine && DAMAGED.get()) {
                PANICS.set(PANICS.get() + 1);
                others(info);
            }
        }));
    });
    PANICS.set(0);
}

/// Returns how many tasks have panicked.
pub(crate) fn panics() -> u32 {
    PANICS.get()
}

/// Runs a seed. `verbose` prints everything that happens.
#[must_use]
pub fn run(seed: u64, verbose: bool) -> Report {
    watch_panics();
    let mut world = World::new(seed, verbose);
    let mut crashed = false;
    for life in 1..=LIVES {
        let last = life == LIVES || world.steps_left == 0;
        if last {
            world.disk.limit(None);
            faults::heal_disk(&world);
        }
        DAMAGED.set(world.damage.is_some());
        let end = world.live(crashed, last);
        if panics() > 0 {
            world.oracle().violated("a task panicked");
        }
        if world.is_broken() {
            break;
        }
        crashed = match end {
            End::Finished => break,
            End::Refused(why) if world.damage.is_some() && !world.oracle().has_opened_damage() => {
                world.refused_damage(&why);
                false
            }
            End::Stopped => {
                if world.plan.mix.damage && world.random.one_in(2) {
                    world.damage();
                }
                false
            }
            End::Crashed => {
                world.disk.crash(&mut world.random);
                true
            }
            End::Refused(why) => {
                let healthy = world.disk.faults().are_none() && !world.plan.mix.full;
                if healthy || last {
                    world
                        .oracle()
                        .violated(format!("the daemon does not start: {why}"));
                    break;
                }
                world
                    .oracle()
                    .note(format!("the daemon does not start: {why}"));
                faults::heal_disk(&world);
                crashed
            }
        };
        faults::between_lives(&mut world);
    }
    let oracle = world.oracle();
    let mut tally = oracle.tally;
    tally.simulated_ms = oracle.now_ms();
    Report {
        trace: oracle.trace(),
        tally,
        mix: world.plan.mix,
        violation: oracle.violation().map(str::to_owned),
    }
}

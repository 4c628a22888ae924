//! What a seed decides before anything runs: the daemon's configuration, the size of the world, and its faults.

use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::Settings;
use stormhook_engine::retention::Retention;
use stormhook_engine::retry::Retry;
use stormhook_engine::schedule::Limits;
use stormhook_store::Options;
use stormhook_testkit::random::Random;

pub(crate) const SECOND_MS: u64 = 1_000;
pub(crate) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// The power fails at any moment, even in the middle of a commit.
    pub crashes: bool,
    /// Calls to the disk fail.
    pub disk: bool,
    /// A failed sync loses the writes that it should have made durable.
    pub forgetful: bool,
    /// The disk is small, or fills up for a while.
    pub full: bool,
    /// The wall clock jumps.
    pub clock: bool,
    /// The disk damages the file while the daemon is not running.
    pub damage: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The engine's settings.
    pub settings: Arc<Settings>,
    /// How long idempotency keys are remembered.
    pub idempotency_ttl: Duration,
    /// Faults.
    pub mix: Mix,
    /// The number of steps.
    pub steps: u64,
    /// The number of organizations.
    pub organizations: u64,
    /// The number of receivers.
    pub partners: u64,
    /// The least number of endpoints before the first step.
    pub fan_out: u64,
    /// Whether events are large and come in bursts that fill the queue by bytes.
    pub large: bool,
    /// The capacity of the disk, in bytes.
    pub disk_bytes: u64,
    /// How much the store does at a time.
    pub sizes: Sizes,
}

/// Sizes of the store, so small that what usually happens once in thousands of commits happens all the time. See
/// [`stormhook_store::Options`].
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Deliveries or keys in the journal after which it is folded.
    pub fold_items: usize,
    /// Commits in the journal after which it is folded.
    pub fold_commits: u64,
    /// Keys in one row of a generation.
    pub keys_per_block: usize,
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

impl Plan {
    /// Returns the plan of this seed.
    pub(crate) fn of(random: &mut Random) -> Self {
        let mix = Mix {
            crashes: !random.one_in(4),
            disk: random.one_in(2),
            forgetful: random.one_in(2),
            full: random.one_in(4),
            clock: random.one_in(3),
            damage: random.one_in(4),
        };
        // An event to hundreds of endpoints creates hundreds of deliveries, each of which is compared repeatedly.
        let wide = random.one_in(10);
        let (settings, idempotency_ttl) = settings(random, wide);
        Self {
            settings: Arc::new(settings),
            idempotency_ttl,
            mix,
            steps: if wide {
                20 + random.below(30)
            } else {
                100 + random.below(400)
            },
            organizations: if wide { 1 } else { 1 + random.below(4) },
            partners: 2 + random.below(10),
            fan_out: if wide { 100 + random.below(200) } else { 1 },
            large: !wide && random.one_in(16),
            disk_bytes: if mix.full && random.one_in(2) {
                4 << 20
            } else {
                256 << 20
            },
            sizes: Sizes {
                fold_items: pick(random, &[4, 30, 200]),
                fold_commits: pick(random, &[5, 40, 300]),
                keys_per_block: pick(random, &[1, 3, 16, 128]),
            },
        }
    }

    /// Returns the store's options: the daemon's, with this plan's sizes.
    pub(crate) fn options(&self) -> Options {
        let Sizes {
            fold_items,
            fold_commits,
            keys_per_block,
        } = self.sizes;
        Options {
            fold_items,
            fold_commits,
            keys_per_block,
            cache_bytes: 1 << 20,
            pending_limit: self.settings.pending_deliveries,
            endpoints_per_organization: self.settings.endpoints_per_organization,
            idempotency_ttl_ms: u64::try_from(self.idempotency_ttl.as_millis()).unwrap(),
            ..Options::new("/simulated/stormhook.redb")
        }
    }
}

/// Returns the engine's settings, and how long idempotency keys are remembered.
fn settings(random: &mut Random, wide: bool) -> (Settings, Duration) {
    let second = Duration::from_millis(SECOND_MS);
    let (minute, hour, day) = (second * 60, second * 3_600, second * 86_400);
    let usual = [minute, minute * 5, minute * 30, hour * 2, day];
    let short = [second * 10, minute, minute * 10];
    let once = [second];
    let schedule = pick(random, &[&usual[..], &usual, &short, &once]);
    let (ttl, events) = pick(
        random,
        &[
            (day, day * 30),
            (day, day * 2),
            (hour, hour * 6),
            (minute * 5, hour),
            (minute * 5, minute * 10),
        ],
    );
    let attempts = pick(random, &[minute * 10, hour, hour * 6, day * 2, day * 30]);
    let settings = Settings {
        in_flight: Limits {
            max_in_flight: pick(random, &[1, 3, 16, 64, 512]),
            max_per_endpoint: pick(random, &[1, 4, 32]),
        },
        retry: Retry {
            schedule: schedule.to_vec(),
            jitter: pick(random, &[0.0, 0.1, 0.5]),
        },
        retention: Retention {
            events,
            attempts,
            audit: events,
        },
        pending_deliveries: pick(random, &[20, 200, 100_000]) * if wide { 50 } else { 1 },
        endpoints_per_organization: if wide { 400 } else { pick(random, &[3, 20]) },
        disable_after: pick(random, &[hour, day, day * 5]),
        ..crate::settings()
    };
    (settings, ttl)
}

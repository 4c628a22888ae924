//! What a seed decides before anything runs: the daemon's configuration, how large the world is, and which faults it holds.

use std::path::Path;
use std::sync::Arc;
use stormhook::config::Config;
use stormhook::serve;
use stormhook_store::Options;
use stormhook_testkit::random::Random;

pub(crate) const SECOND_MS: u64 = 1_000;
pub(crate) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// Which faults a run may meet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// The power goes at any moment, also in the middle of a commit.
    pub crashes: bool,
    /// Calls to the disk fail.
    pub disk: bool,
    /// A sync that fails forgets what it should have written.
    pub forgetful: bool,
    /// The disk is small, or fills up for a while.
    pub full: bool,
    /// The wall clock jumps.
    pub clock: bool,
    /// The disk damages what it holds while the daemon does not run.
    pub damage: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The daemon's.
    pub config: Arc<Config>,
    /// Faults.
    pub mix: Mix,
    /// How many things happen.
    pub steps: u64,
    /// How many organizations there are.
    pub organizations: u64,
    /// How many partners there are.
    pub partners: u64,
    /// How many endpoints there are at least, before anything else happens.
    pub fan_out: u64,
    /// Events are large, and come in bursts that fill the queue by their bytes.
    pub large: bool,
    /// The most that the disk holds.
    pub disk_bytes: u64,
    /// How much the store does at a time.
    pub sizes: Sizes,
}

/// Sizes of the store, so small that what happens once in thousands of commits happens all the time. See
/// [`stormhook_store::Options`].
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Deliveries or keys in the journal that make it worth folding.
    pub fold_items: usize,
    /// Commits in the journal that make it worth folding.
    pub fold_commits: u64,
    /// Keys in one row of a generation.
    pub keys_per_block: usize,
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

impl Plan {
    /// What this seed decides.
    pub(crate) fn of(random: &mut Random) -> Self {
        let mix = Mix {
            crashes: !random.one_in(4),
            disk: random.one_in(2),
            forgetful: random.one_in(2),
            full: random.one_in(4),
            clock: random.one_in(3),
            damage: random.one_in(4),
        };
        // An event to hundreds of endpoints is hundreds of deliveries, each of which is compared again and again.
        let wide = random.one_in(10);
        Self {
            config: Arc::new(config(random, wide)),
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

    /// The store's options: the daemon's own, with this plan's sizes.
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
            ..serve::options(&self.config)
        }
    }
}

fn config(random: &mut Random, wide: bool) -> Config {
    let schedule = pick(
        random,
        &[
            r#"["1m","5m","30m","2h","24h"]"#,
            r#"["1m","5m","30m","2h","24h"]"#,
            r#"["10s","1m","10m"]"#,
            r#"["1s"]"#,
        ],
    );
    let (ttl, events) = pick(
        random,
        &[
            ("24h", "30d"),
            ("24h", "2d"),
            ("1h", "6h"),
            ("5m", "1h"),
            ("5m", "10m"),
        ],
    );
    let attempts = pick(random, &["10m", "1h", "6h", "2d", "30d"]);
    let text = format!(
        r#"
        data_dir = "/simulated"
        socket = "off"
        [delivery]
        max_in_flight = {in_flight}
        max_in_flight_per_endpoint = {per_endpoint}
        [retry]
        schedule = {schedule}
        jitter = {jitter}
        [idempotency]
        ttl = "{ttl}"
        [retention]
        events = "{events}"
        attempts = "{attempts}"
        [limits]
        pending_deliveries = {pending}
        endpoints_per_organization = {endpoints}
        disk_reserve = "1MiB"
        [store]
        cache = "1MiB"
        [breaker]
        disable_after = "{disable_after}"
        "#,
        in_flight = pick(random, &[1, 3, 16, 64, 512]),
        per_endpoint = pick(random, &[1, 4, 32]),
        jitter = pick(random, &["0.0", "0.1", "0.5"]),
        pending = pick(random, &[20, 200, 100_000]) * if wide { 50 } else { 1 },
        endpoints = if wide { 400 } else { pick(random, &[3, 20]) },
        disable_after = pick(random, &["1h", "1d", "5d"]),
    );
    let file = (Path::new("simulated.toml"), text.as_str());
    match Config::from_sources(Some(file), [], &[]) {
        Ok(config) => config,
        Err(error) => panic!("the simulation's own configuration: {error}"),
    }
}

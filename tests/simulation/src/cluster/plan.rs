//! The plan of a seed: how many daemons, which faults, and the settings.

use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::Settings;
use stormhook_engine::retry::Retry;
use stormhook_engine::schedule::Limits;
use stormhook_testkit::random::Random;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Arc<Settings>,
    pub(crate) lease: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) daemons: u64,
    pub(crate) organizations: u64,
    pub(crate) receivers: u64,
    /// For how long faults happen, in milliseconds.
    pub(crate) chaos_ms: u64,
    /// A fault happens once in so many milliseconds, on average.
    pub(crate) fault_every_ms: u64,
    /// An event is sent once in so many milliseconds, on average.
    pub(crate) event_every_ms: u64,
    pub(crate) mix: Mix,
}

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// Daemons are killed.
    pub kills: bool,
    /// Daemons are paused, and go on.
    pub pauses: bool,
    /// Connections to the database are cut, with what is on them.
    pub cuts: bool,
    /// Daemons can't reach the database for a while.
    pub islands: bool,
    /// The database restarts.
    pub restarts: bool,
    /// The database is slow for a while.
    pub slow: bool,
    /// Daemons stop in order, and others start.
    pub moves: bool,
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

impl Plan {
    /// Returns the plan of this seed.
    pub(crate) fn of(random: &mut Random) -> Self {
        let mix = Mix {
            kills: random.one_in(2),
            pauses: random.one_in(2),
            cuts: random.one_in(2),
            islands: random.one_in(3),
            restarts: random.one_in(3),
            slow: random.one_in(3),
            moves: random.one_in(2),
        };
        let seconds = |of: &[u64]| of.iter().copied().map(Duration::from_secs).collect();
        let schedule: Vec<Duration> = match random.below(3) {
            0 => seconds(&[1]),
            1 => seconds(&[1, 3, 8]),
            _ => seconds(&[2, 2, 2, 2, 2]),
        };
        let settings = Settings {
            in_flight: Limits {
                max_in_flight: pick(random, &[2, 16, 512]),
                max_per_endpoint: pick(random, &[1, 4, 32]),
            },
            retry: Retry {
                schedule,
                jitter: pick(random, &[0.0, 0.1]),
            },
            ..crate::settings()
        };
        Self {
            settings: Arc::new(settings),
            lease: Duration::from_secs(pick(random, &[2, 4, 8])),
            attempt_timeout: Duration::from_secs(pick(random, &[1, 3, 10])),
            daemons: 2 + random.below(2),
            organizations: 2 + random.below(10),
            receivers: 2 + random.below(4),
            chaos_ms: 10_000 + random.below(30_000),
            fault_every_ms: pick(random, &[1_000, 3_000, 8_000]),
            event_every_ms: pick(random, &[50, 150, 500]),
            mix,
        }
    }

    /// Returns how many attempts a delivery has at most.
    pub(crate) fn attempts(&self) -> u32 {
        u32::try_from(self.settings.retry.schedule.len()).unwrap() + 1
    }

    pub(crate) fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap()
    }
}

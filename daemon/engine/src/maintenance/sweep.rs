//! The sweep: a pass every ten minutes removes what is past its retention.

use super::Maintenance;
use crate::clock;
use crate::store::{Reader, Sweeper};
use crate::writer::SubmitError;
use std::time::Duration;
use stormhook_store::Found;
use stormhook_store::maintenance::{Probe, Sweep, Swept};

/// How often a pass begins.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Failed commits after which a pass ends.
const SWEEP_FAILURES: u32 = 3;

impl Maintenance {
    pub(super) fn begin_sweep(&self, sweeping: &mut Sweeping) {
        let now = self.clock.paced();
        let horizon = self.settings.settings().retention.horizon(now);
        sweeping.sweeper.begin(horizon, now);
        sweeping.under_way = true;
        sweeping.failures = 0;
    }

    /// Runs one step of the sweep: reads some rows, or makes one commit.
    pub(super) async fn sweep(&self, sweeping: &mut Sweeping) {
        if !sweeping.under_way {
            return;
        }
        if sweeping.found.is_none() {
            match sweeping.sweeper.step().await {
                Ok(Found::Work(sweep)) => sweeping.found = Some(sweep),
                Ok(Found::Nothing) => return,
                Ok(Found::End) => return sweeping.end(),
                Err(error) => {
                    tracing::warn!(%error, "the sweep can't read the store; it starts again in ten minutes");
                    // After a failed read redb refuses all reads until a commit reopens the file.
                    if !error.is_damage() {
                        self.writer.post(Probe);
                    }
                    return sweeping.end();
                }
            }
        }
        let Some(sweep) = sweeping.found.clone() else {
            return;
        };
        match self.writer.submit(sweep).await {
            Ok(Swept { more: true }) => {}
            Ok(Swept { more: false }) | Err(SubmitError::Damaged) => sweeping.found = None,
            Err(SubmitError::ShuttingDown) => sweeping.end(),
            Err(_) => {
                // What failed is skipped, and found again by the next pass.
                sweeping.found = None;
                sweeping.failures += 1;
                if sweeping.failures >= SWEEP_FAILURES {
                    sweeping.end();
                }
            }
        }
    }
}

/// The current pass of the sweep, and when the next one begins.
pub(super) struct Sweeping {
    sweeper: Sweeper,
    /// Found and not yet removed.
    found: Option<Sweep>,
    pub(super) under_way: bool,
    failures: u32,
    /// When the next pass begins.
    pub(super) at: tokio::time::Instant,
}

impl Sweeping {
    pub(super) fn new(reader: &Reader) -> Self {
        Self {
            sweeper: reader.sweeper(),
            found: None,
            under_way: false,
            failures: 0,
            at: clock::deadline(SWEEP_EVERY / 10),
        }
    }

    pub(super) fn end(&mut self) {
        self.found = None;
        self.under_way = false;
        self.at = clock::deadline(SWEEP_EVERY);
    }
}

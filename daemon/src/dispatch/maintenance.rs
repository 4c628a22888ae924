//! What runs beside the attempts: the timer that waits for the next due time, and the work in bulk that is done behind.
//!
//! Neither wakes up while nothing is due: the timer is set to a known time or to none, and maintenance waits to be called,
//! but for the sweep a few times an hour.

use super::Dispatch;
use super::bulk::BulkWork;
use crate::clock;
use crate::writer::{Free, SubmitError};
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::maintenance::{FlushStats, Probe, Sweep, Swept};
use stormhook_store::{Found, Horizon, Reader, Sweeper, UnixMs};

/// How far histograms and per-endpoint windows may be behind the counters.
const STATS_BEHIND: Duration = Duration::from_secs(10);
/// How often retention is looked after.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Commits of one pass of the sweep that may fail.
const SWEEP_FAILURES: u32 = 3;
/// How long maintenance waits after it met damage: a commit that does opens the file anew.
const AFTER_DAMAGE: Duration = SWEEP_EVERY;
/// How long maintenance waits after a commit failed.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Dispatch {
    pub(super) async fn run_timer(self: Arc<Self>) {
        loop {
            let notified = self.timer.notified();
            let wake = {
                let inner = &mut *self.inner();
                let may_start = self.may_start(inner);
                let wake = inner.schedule.next_wake().filter(|_| may_start);
                inner.alarm.set(wake)
            };
            let Some(wake) = wake else {
                notified.await;
                continue;
            };
            let rest_ms = wake.since_ms(self.clock.now()).max(1);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(clock::deadline(Duration::from_millis(rest_ms))) => {
                    self.pump(&mut self.inner());
                }
                () = notified => {}
            }
        }
    }

    /// One step of each kind of maintenance in turn, so that neither holds up the other: bulk changes, the sweep.
    pub(super) async fn run_maintenance(self: Arc<Self>) {
        let mut stats_at = None;
        let mut sweeping = Sweeping::new(&self.reader);
        let mut bulk = BulkWork::default();
        let mut advancing = true;
        loop {
            advancing = advancing && self.advance_bulk(&mut bulk).await;
            self.sweep(&mut sweeping).await;
            if stats_at.is_none() && self.reader.stats_wait() {
                stats_at = Some(clock::deadline(STATS_BEHIND));
            }
            let busy = advancing || sweeping.under_way;
            // What has a time of its own comes first: maintenance may be called all the time.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(sweeping.at), if !sweeping.under_way => {
                    self.begin_sweep(&mut sweeping);
                }
                () = async { tokio::time::sleep_until(stats_at.unwrap_or(sweeping.at)).await }, if stats_at.is_some() => {
                    // Waited for, or what is being written would be written again ten seconds later.
                    stats_at = match self.writer.submit(FlushStats).await {
                        Err(SubmitError::Damaged) => Some(clock::deadline(AFTER_DAMAGE)),
                        _ => None,
                    };
                }
                () = self.maintenance.notified() => advancing = true,
                () = tokio::task::yield_now(), if busy => {}
            }
        }
    }

    /// Commits an operation, trying again where a commit failed. `None` when the daemon stops.
    pub(super) async fn submit_until_done<O: Free>(
        &self,
        operation: impl Fn() -> O,
    ) -> Option<Result<O::Answer, Damaged>> {
        loop {
            match self.writer.submit(operation()).await {
                Ok(answer) => return Some(Ok(answer)),
                Err(SubmitError::Damaged) => return Some(Err(Damaged)),
                Err(SubmitError::ShuttingDown) => return None,
                Err(_) => tokio::time::sleep_until(clock::deadline(AGAIN_AFTER)).await,
            }
        }
    }

    fn begin_sweep(&self, sweeping: &mut Sweeping) {
        let retention = self.config.now().retention.clone();
        let now = self.clock.paced();
        let before = |keep: Duration| {
            let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            UnixMs(now.0.saturating_sub(keep_ms))
        };
        let horizon = Horizon {
            events_before: before(retention.events),
            attempts_before: before(retention.attempts),
        };
        sweeping.sweeper.begin(horizon, now);
        sweeping.under_way = true;
        sweeping.failures = 0;
    }

    /// One step of the sweep: some rows looked at, or one commit.
    async fn sweep(&self, sweeping: &mut Sweeping) {
        if !sweeping.under_way {
            return;
        }
        if sweeping.found.is_none() {
            match sweeping.sweeper.step() {
                Ok(Found::Work(sweep)) => sweeping.found = Some(sweep),
                Ok(Found::Nothing) => return,
                Ok(Found::End) => return sweeping.end(),
                Err(error) => {
                    tracing::warn!(%error, "the sweep can't read the store; it begins anew in ten minutes");
                    // After a read that failed the engine refuses every question until a commit has the file opened again.
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
                // What fails is passed over, and comes up again with what is looked at again.
                sweeping.found = None;
                sweeping.failures += 1;
                if sweeping.failures >= SWEEP_FAILURES {
                    sweeping.end();
                }
            }
        }
    }
}

/// Of an operation that met damage: nothing of it was done.
#[derive(Debug)]
pub(super) struct Damaged;

/// The sweep, a pass every ten minutes.
struct Sweeping {
    sweeper: Sweeper,
    /// Found and not yet dropped.
    found: Option<Sweep>,
    under_way: bool,
    failures: u32,
    /// When the next pass begins.
    at: tokio::time::Instant,
}

impl Sweeping {
    fn new(reader: &Reader) -> Self {
        Self {
            sweeper: reader.sweeper(),
            found: None,
            under_way: false,
            failures: 0,
            at: clock::deadline(SWEEP_EVERY / 10),
        }
    }

    fn end(&mut self) {
        self.found = None;
        self.under_way = false;
        self.at = clock::deadline(SWEEP_EVERY);
    }
}

//! What runs beside the attempts: the timer that waits for the next due time, and the work in bulk that is done behind.
//!
//! Neither wakes up while nothing is due: the timer is set to a known time or to none, and the chores wait to be called,
//! but for the sweep a few times an hour.

use super::{Dispatch, cover};
use crate::clock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stormhook_store::{Horizon, Op, ROWS_PER_STEP, UnixMs};

/// How far histograms and per-endpoint windows may be behind the counters.
const STATS_BEHIND: Duration = Duration::from_secs(10);
/// How often retention is looked after.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How much faster than time the horizon of the sweep may move, so that a jump of the clock can't delete all history.
const HORIZON_PACE: u64 = 60;

impl Dispatch {
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let notified = self.timer.notified();
            let wake = {
                let inner = self.inner();
                let idle = inner.failing || inner.stopping || inner.unsettled >= super::UNSETTLED;
                inner.schedule.next_wake().filter(|_| !idle)
            };
            self.armed_ms
                .store(wake.map_or(u64::MAX, |at| at.0), Ordering::Relaxed);
            let Some(wake) = wake else {
                notified.await;
                continue;
            };
            let rest_ms = wake.since_ms(self.clock.now()).max(1);
            tokio::select! {
                () = tokio::time::sleep_until(clock::deadline(Duration::from_millis(rest_ms))) => {
                    self.pump(&mut self.inner());
                }
                () = notified => {}
            }
        }
    }

    pub(super) async fn do_chores(self: Arc<Self>) {
        let mut stats_at = None;
        let mut sweep_at = clock::deadline(SWEEP_EVERY / 10);
        let mut swept = clock::Moment::now();
        loop {
            self.write_out_covered().await;
            while self.reader.jobs_wait() && self.writer.submit(Op::WorkOff).await.is_ok() {}
            if stats_at.is_none() && self.reader.stats_wait() {
                stats_at = Some(clock::deadline(STATS_BEHIND));
            }
            tokio::select! {
                () = self.chores.notified() => {}
                () = async { tokio::time::sleep_until(stats_at.unwrap_or(sweep_at)).await }, if stats_at.is_some() => {
                    stats_at = None;
                    self.writer.post(Op::FlushStats);
                }
                () = tokio::time::sleep_until(sweep_at) => {
                    self.sweep(swept.elapsed()).await;
                    swept = clock::Moment::now();
                    sweep_at = clock::deadline(SWEEP_EVERY);
                }
            }
        }
    }

    /// Writes out what marks have ended, some rows a commit. Readers see it as ended already.
    async fn write_out_covered(&self) {
        loop {
            let (slot, events) = {
                let mut inner = self.inner();
                let Some(slot) = inner.covered.first().copied() else {
                    return;
                };
                let events = cover(&mut inner, &self.reader, slot, ROWS_PER_STEP);
                if events.is_empty() {
                    inner.covered.remove(&slot);
                }
                (slot, events)
            };
            if !events.is_empty() {
                // What a failed commit leaves out is covered all the same, and written out after the next start.
                let _later = self.writer.submit(Op::EndCovered { slot, events }).await;
            }
        }
    }

    async fn sweep(&self, since_last: Duration) {
        let retention = self.tuning().config.retention.clone();
        let now = self.clock.now();
        let before = |keep: Duration| {
            UnixMs(
                now.0
                    .saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)),
            )
        };
        let last = self.reader.swept_before();
        let pace_ms = u64::try_from(since_last.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(HORIZON_PACE);
        let events_before = before(retention.events);
        let held_back = if last.0 == 0 {
            0
        } else {
            events_before.since_ms(last.plus_ms(pace_ms))
        };
        let horizon = Horizon {
            events_before: UnixMs(events_before.0.saturating_sub(held_back)),
            attempts_before: UnixMs(before(retention.attempts).0.saturating_sub(held_back)),
        };
        while let Ok(stormhook_store::Done::Swept { more: true }) =
            self.writer.submit(Op::Sweep(horizon)).await
        {}
    }
}

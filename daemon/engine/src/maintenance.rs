//! Maintenance: writes what bulk changes did, removes what purges remove, runs the sweep, flushes statistics, rewrites
//! secrets in another form. It wakes up only when it is notified, except for the sweep every ten minutes.

mod bulk;
mod purge;
mod reseal;
mod sweep;

use crate::clock::{self, StoreClock};
use crate::dispatch::Dispatch;
use crate::lifecycle::Lifecycle;
use crate::settings::SettingsSource;
use crate::store::Reader;
use crate::writer::{SubmitError, Writer};
use bulk::BulkWork;
use purge::Purging;
use reseal::Resealing;
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::maintenance::FlushStats;
use sweep::{SWEEP_EVERY, Sweeping};

/// How far histograms and per-endpoint windows may lag behind the counters.
const STATS_BEHIND: Duration = Duration::from_secs(10);
/// How long maintenance waits after it met damage: each commit that does reopens the file.
const AFTER_DAMAGE: Duration = SWEEP_EVERY;

/// See the module.
pub(crate) struct Maintenance {
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) reader: Reader,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) settings: Arc<dyn SettingsSource>,
    pub(crate) life: Arc<Lifecycle>,
}

impl Maintenance {
    /// Runs one step of each kind of maintenance in turn, so that bulk changes and the sweep don't block each other.
    pub(crate) async fn run(self) {
        let mut stats_at = None;
        let mut sweeping = Sweeping::new(&self.reader);
        let mut bulk = BulkWork::default();
        let mut purging = Purging::default();
        let mut resealing = Resealing::new(&self.reader);
        let mut advancing = true;
        loop {
            advancing = advancing && self.advance_bulk(&mut bulk).await;
            let removing = self.purge(&mut purging).await;
            self.sweep(&mut sweeping).await;
            let rewriting = self.reseal(&mut resealing).await;
            if stats_at.is_none() && self.reader.stats_wait() {
                stats_at = Some(clock::deadline(STATS_BEHIND));
            }
            let busy = advancing || removing || sweeping.under_way || rewriting;
            // Timed work comes first: maintenance may be notified all the time.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(sweeping.at), if !sweeping.under_way => {
                    self.begin_sweep(&mut sweeping);
                }
                () = async { tokio::time::sleep_until(stats_at.unwrap_or(sweeping.at)).await }, if stats_at.is_some() => {
                    // Awaited, or what is being written now would be written again ten seconds later.
                    stats_at = match self.writer.submit(FlushStats).await {
                        Err(SubmitError::Damaged) => Some(clock::deadline(AFTER_DAMAGE)),
                        _ => None,
                    };
                }
                () = async { tokio::time::sleep_until(resealing.again_at.unwrap_or(sweeping.at)).await }, if resealing.again_at.is_some() => {
                    resealing.again_at = None;
                }
                () = async { tokio::time::sleep_until(purging.again_at.unwrap_or(sweeping.at)).await }, if purging.again_at.is_some() => {
                    purging.again_at = None;
                }
                () = self.dispatch.calls_maintenance() => advancing = true,
                () = tokio::task::yield_now(), if busy => {}
            }
        }
    }
}

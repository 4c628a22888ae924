//! Reads what waits, when a daemon starts.

use super::Store;
use crate::callers;
use crate::cluster::Shard;
use crate::cluster::plan::{Step, plan};
use crate::cluster::view::View;
use crate::convert::column;
use crate::link::Link;
use crate::load::{self, each};
use std::collections::BTreeSet;
use std::sync::Arc;
use stormhook_store::{QueueEntry, StoreError};

impl Store {
    /// Claims the shards that are free, and reads those that are this seat's.
    pub(super) async fn take_shards(&mut self) -> Result<(), StoreError> {
        let seat = self.cluster.seat;
        let view = View::read(&self.link, self.shared.options.lease).await?;
        for step in plan(seat.seat, &view, &BTreeSet::new(), false) {
            if let Step::Claim(most) = step {
                seat.claim(&self.link, most).await?;
            }
        }
        let view = View::read(&self.link, self.shared.options.lease).await?;
        let revision = view.api_keys_revision;
        callers::look(&self.shared, &self.link, revision).await?;
        self.cluster.saw(view);
        // What another daemon may still be sending is read later, and its FIFO endpoints rest.
        let mut owned: BTreeSet<Shard> = BTreeSet::new();
        let sql = "SELECT shard FROM @.shards WHERE owner = $1 AND rests_until <= now()";
        each(&self.link, sql, &[&seat.seat], |row| {
            owned.extend(Shard::numbered(column(row, 0)?));
            Ok(())
        })
        .await?;
        if owned.is_empty() {
            return Ok(());
        }
        let link = Link::open_for_reading(&self.shared.options).await?;
        let loading = load::shards(&link, seat.seat, &owned);
        let mut loaded = self.cluster.while_renewing(loading).await?;
        loaded.join(&mut self.shared.memory_mut());
        Ok(())
    }

    /// Passes every open delivery of this daemon's shards to `each`, in order of due time. Those that a bulk change has
    /// ended or reopened are not among them.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn open_deliveries(&self, pass: impl FnMut(QueueEntry)) -> Result<(), StoreError> {
        let (bulks, shards, fresh) = {
            let memory = self.shared.memory();
            let bulks = Arc::clone(&memory.directory.bulks);
            (bulks, memory.shards.clone(), memory.fresh.clone())
        };
        let link = Link::open_for_reading(&self.shared.options).await?;
        let reading = load::waiting(&link, &shards, &bulks, &fresh, pass);
        self.cluster.while_renewing(reading).await
    }
}

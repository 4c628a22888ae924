//! The last commits of a lane, for a server that comes back without them: a failover to a standby that lacked them, or a
//! backup that was put in place.

use super::Store;
use crate::cluster::Shard;
use crate::cluster::seat::now;
use crate::convert::{column, int4};
use crate::link::{Link, failed};
use crate::load::each;
use crate::partitions::Days;
use crate::staged::Staged;
use crate::write::commit;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;
use stormhook_store::StoreError;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// How long a commit is kept, and how much is kept at most.
const KEPT_FOR: Duration = Duration::from_secs(30);
const BYTES: usize = 64 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ring {
    commits: VecDeque<(Instant, usize, Box<Staged>)>,
    bytes: usize,
}

impl Ring {
    /// Keeps a commit that was made. The oldest make room for it.
    pub(super) fn push(&mut self, staged: Box<Staged>) {
        let (at, bytes) = (now(), staged.bytes());
        self.bytes += bytes;
        self.commits.push_back((at, bytes, staged));
        while let Some((made, bytes, _)) = self.commits.front()
            && (self.bytes > BYTES || at.duration_since(*made) > KEPT_FOR)
        {
            self.bytes = self.bytes.saturating_sub(*bytes);
            self.commits.pop_front();
        }
    }

    /// Returns the commits after this one, if all of them up to `last` are here and none moved shards.
    fn after(&self, commit: u64, last: u64) -> Option<Vec<&Staged>> {
        let after = self.commits.iter().map(|(_, _, staged)| &**staged);
        let after: Vec<&Staged> = after.filter(|staged| staged.commit > commit).collect();
        let is_whole = after.iter().map(|s| s.commit).eq(commit + 1..=last);
        let moves = |s: &&Staged| !s.adopted.is_empty() || !s.given.is_empty();
        (is_whole && !after.iter().any(moves)).then_some(after)
    }
}

impl Store {
    /// Writes the commits after `commit` again, which the database lacks.
    ///
    /// # Errors
    /// The database can't be reached, or [`StoreError::TakenOver`]: they can't be written again.
    pub(super) async fn write_again(
        &mut self,
        link: &Link,
        commit_no: u64,
    ) -> Result<(), StoreError> {
        let (last, shards) = {
            let memory = self.shared.memory();
            (memory.commit, memory.shards.clone())
        };
        let lost = last.saturating_sub(commit_no);
        if !owns(link, self.shared.lane, &shards).await? {
            tracing::error!(
                lost,
                "the database came back without the last commits, and with other owners of the shards"
            );
            return Err(StoreError::TakenOver);
        }
        let Some(again) = self.ring.after(commit_no, last) else {
            tracing::error!(
                lost,
                "the database came back without the last commits, and this daemon no longer has them all"
            );
            return Err(StoreError::TakenOver);
        };
        let mut days = Days::load(link, &self.shared.options.schema).await?;
        for staged in again {
            days.ensure_of(link, staged.ids()).await?;
            count_endpoints(link, staged).await?;
            match commit(link, (self.shared.lane, self.incarnation), staged).await {
                Err(error) if !link.client.is_closed() && !error.is_unreachable() => {
                    tracing::error!(%error, "a commit that the database had lost can't be made again");
                    return Err(StoreError::TakenOver);
                }
                made => made?,
            }
        }
        self.days = days;
        self.cluster.remade.fetch_add(lost, Ordering::Relaxed);
        tracing::error!(
            lost,
            "the database came back without the last commits; they were made again"
        );
        Ok(())
    }
}

/// Whether all of these shards are the lane's.
async fn owns(link: &Link, lane: i16, shards: &BTreeSet<Shard>) -> Result<bool, StoreError> {
    let mut owned = BTreeSet::new();
    let sql = "SELECT shard FROM @.shards WHERE owner = $1";
    each(link, sql, &[&lane], |row| {
        owned.extend(Shard::numbered(column(row, 0)?));
        Ok(())
    })
    .await?;
    Ok(shards.is_subset(&owned))
}

/// The count of endpoints may have been lost too. No number must be given again.
async fn count_endpoints(link: &Link, staged: &Staged) -> Result<(), StoreError> {
    let Some(last) = staged.directory.endpoints.keys().last() else {
        return Ok(());
    };
    let sql = "UPDATE @.meta SET next_slot = $1 + 1 WHERE next_slot <= $1";
    let statement = link.prepare(sql, &[Type::INT4]).await?;
    let counted = link.client.execute(&statement, &[&int4(*last)]).await;
    counted.map_err(|e| failed(&e)).map(|_| ())
}

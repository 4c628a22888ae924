//! Moves shards between this lane and those of other daemons, in commits of their own.

use super::Store;
use crate::cluster::Shard;
use crate::convert::{column, number};
use crate::load::each;
use crate::ownership::Move;
use crate::rows::Fetched;
use crate::staged::{Moving, decide};
use std::collections::BTreeSet;
use std::sync::Arc;
use stormhook_store::{Change, Gained, Now, StoreError};

impl Store {
    /// Makes the moves of shards that wait, in a commit of their own.
    pub(super) async fn make_moves(&mut self, now: Now, random: u128) -> Result<(), StoreError> {
        self.join_gained();
        let given = self.to_give.clone();
        let lost_open = self.open_of(&given).await?;
        let moving = Moving {
            adopted: self.shared.memory().unadopted.clone(),
            given,
            lost_open,
        };
        if moving.adopted.is_empty() && moving.given.is_empty() {
            return Ok(());
        }
        let limits = self.limits();
        let ttl_ms = self.options.idempotency_ttl_ms;
        let fetched = Fetched::default();
        let batch = (&[][..], now, random);
        let decided = decide(
            &self.shared.memory(),
            limits,
            ttl_ms,
            batch,
            &fetched,
            &moving,
        )?;
        let staged = decided.map_err(|_| StoreError::NotFetched)?;
        self.write(staged, true).await?;
        if let Some(applied) = self.merge_in_doubt() {
            self.moved.extend(applied.changes);
        }
        self.to_give.clear();
        Ok(())
    }

    /// Joins shards that were read to memory: they are this lane's from now on.
    fn join_gained(&mut self) {
        let shared = Arc::clone(&self.shared);
        let cluster = self.cluster.clone();
        let mut waiting = cluster.moves();
        for waiting in waiting.drain(..) {
            match waiting {
                Move::Gained(mut loaded) => {
                    let mut memory = shared.memory_mut();
                    loaded.join(&mut memory);
                    let with_state = |e: &Arc<stormhook_store::Endpoint>| {
                        (Arc::clone(e), memory.directory.state(e.slot))
                    };
                    let slots: BTreeSet<_> = loaded.endpoints.iter().map(|e| e.slot).collect();
                    let bulks = memory.directory.bulks_in_progress().into_iter();
                    self.moved.push(Change::Gained(Box::new(Gained {
                        endpoints: loaded.endpoints.iter().map(with_state).collect(),
                        waiting: std::mem::take(&mut loaded.waiting),
                        bulks: bulks.filter(|(slot, _)| slots.contains(slot)).collect(),
                        on_wire_for: loaded.on_wire_for,
                    })));
                }
                Move::Give(shards) => self.to_give.extend(shards),
            }
        }
    }

    /// Returns how many deliveries of these shards are open. Nobody else changes that.
    async fn open_of(&self, shards: &BTreeSet<Shard>) -> Result<u64, StoreError> {
        if shards.is_empty() {
            return Ok(0);
        }
        let shards: Vec<i16> = shards.iter().map(|shard| shard.number()).collect();
        let sql = "SELECT count(*) FROM @.open o JOIN @.endpoints e ON e.slot = o.slot WHERE e.shard = ANY($1)";
        let mut open = 0;
        each(&self.link, sql, &[&shards], |row| {
            open = number(column(row, 0)?);
            Ok(())
        })
        .await?;
        Ok(open)
    }

    /// Gives all shards, and leaves the seat: the last thing that a daemon does.
    ///
    /// # Errors
    /// The database refuses. Then others take over when the lease has ended.
    pub async fn leave(&mut self, now: impl Into<Now>, random: u128) -> Result<(), StoreError> {
        if self.broken {
            return Ok(());
        }
        let all = self.shared.memory().shards.clone();
        self.to_give.extend(all);
        self.make_moves(now.into(), random).await?;
        self.cluster.seat.leave(&self.link).await
    }
}

//! Moves shards between this lane and those of other daemons, in commits of their own.

use super::Store;
use crate::cluster::Shard;
use crate::load;
use crate::ownership::Move;
use crate::rows::Fetched;
use crate::staged::Moving;
use std::collections::BTreeSet;
use std::sync::Arc;
use stormhook_store::{Change, Gained, Now, Op, StoreError};

impl Store {
    /// Makes the moves of shards that wait, in a commit of their own before that of a batch.
    pub(super) async fn make_moves(
        &mut self,
        ops: &[Op],
        now: Now,
        random: u128,
    ) -> Result<(), StoreError> {
        self.join_gained();
        self.keep_those_with_outcomes(ops);
        let given = self.to_give.clone();
        let lost_rows = if given.is_empty() {
            0
        } else {
            load::open_of(&self.link, &given).await?
        };
        let moving = {
            let memory = self.shared.memory();
            let fresh = u64::try_from(memory.fresh_of(&given)).unwrap_or(u64::MAX);
            Moving {
                adopted: memory.unadopted.clone(),
                lost_open: lost_rows.saturating_add(fresh),
                given,
            }
        };
        if moving.adopted.is_empty() && moving.given.is_empty() {
            return Ok(());
        }
        let decided = self.decide((&[], now, random), &Fetched::default(), &moving)?;
        let staged = decided.map_err(|_| StoreError::NotFetched)?;
        self.write(staged, true).await?;
        if let Some(applied) = self.merge_in_doubt() {
            self.moved.extend(applied.changes);
        }
        self.to_give.clear();
        Ok(())
    }

    /// Shards with outcomes in the batch are given later: those of attempts that ended while the database was away come
    /// first, or the next owner would make the attempts again.
    fn keep_those_with_outcomes(&mut self, ops: &[Op]) {
        if self.to_give.is_empty() {
            return;
        }
        let with_outcomes: BTreeSet<Shard> = {
            let directory = &self.shared.memory().directory;
            let slots = ops.iter().filter_map(|op| match op {
                Op::Settle(settle) => Some(settle.delivery.slot),
                _ => None,
            });
            let of = slots.filter_map(|slot| directory.endpoint(slot));
            of.map(|e| Shard::of(&e.organization)).collect()
        };
        let later = &self.to_give & &with_outcomes;
        if !later.is_empty() {
            self.to_give.retain(|shard| !later.contains(shard));
            self.cluster.moves().push(Move::Give(later));
        }
    }

    /// Joins shards that were read to memory: they are this lane's from now on.
    fn join_gained(&mut self) {
        let shared = Arc::clone(&self.shared);
        let cluster = self.cluster.clone();
        let mut moves = cluster.moves();
        for next in moves.drain(..) {
            match next {
                Move::Gained(mut loaded, waiting) => {
                    let mut memory = shared.memory_mut();
                    loaded.join(&mut memory);
                    let with_state = |e: &Arc<stormhook_store::Endpoint>| {
                        (Arc::clone(e), memory.directory.state(e.slot))
                    };
                    let slots: BTreeSet<_> = loaded.endpoints.iter().map(|e| e.slot).collect();
                    let bulks = memory.directory.bulks_in_progress().into_iter();
                    self.moved.push(Change::Gained(Box::new(Gained {
                        endpoints: loaded.endpoints.iter().map(with_state).collect(),
                        waiting,
                        bulks: bulks.filter(|(slot, _)| slots.contains(slot)).collect(),
                        on_wire_for: loaded.on_wire_for,
                    })));
                }
                Move::Give(shards) => self.to_give.extend(shards),
                Move::Reached(reached) => drop(reached.send(())),
            }
        }
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
        self.make_moves(&[], now.into(), random).await?;
        self.cluster.seat.leave(&self.link).await
    }
}

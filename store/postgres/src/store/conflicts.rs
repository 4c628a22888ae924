//! Makes a batch again that the database rolled back in favour of another transaction: a serialization failure or a
//! deadlock. Nothing of it was stored, so it is decided anew.

use super::Store;
use std::time::Duration;
use stormhook_store::{Now, Op, StoreError};

/// How often a batch is tried.
const TRIES: u32 = 5;
/// The pause before the second try. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(10);

impl Store {
    /// Makes the moves of shards that wait, and the batch.
    pub(super) async fn try_with_moves(
        &mut self,
        ops: &[Op],
        now: Now,
        random: u128,
    ) -> Result<(), StoreError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.try_once(ops, now, random).await {
                Err(StoreError::Conflict(what)) => {
                    self.in_doubt = None;
                    if !std::mem::replace(&mut self.conflicts, true) {
                        tracing::warn!(%what, "a commit conflicts with another transaction and is tried again");
                    }
                }
                done => {
                    if done.is_ok() && pause == PAUSE && std::mem::take(&mut self.conflicts) {
                        tracing::info!("commits no longer conflict with other transactions");
                    }
                    return done;
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.try_once(ops, now, random).await
    }

    async fn try_once(&mut self, ops: &[Op], now: Now, random: u128) -> Result<(), StoreError> {
        self.make_moves(ops, now, random).await?;
        self.try_apply(ops, now, random).await
    }
}

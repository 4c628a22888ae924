//! Writes what bulk changes did to each delivery, a thousand rows at a time, one endpoint after the other. Readers see
//! the result already.

use super::Maintenance;
use crate::clock;
use crate::store::BulkWalk;
use crate::writer::{AGAIN_AFTER, Damaged};
use std::collections::BTreeMap;
use stormhook_store::maintenance::{AdvanceBulk, Probe};
use stormhook_store::{BulkFound, EventId, Slot, StoreError};

/// The progress of all bulk changes.
#[derive(Default)]
pub(super) struct BulkWork {
    walks: BTreeMap<Slot, Walk>,
    /// The endpoint that had the last turn.
    after: Option<Slot>,
    /// Whether the last read of the store failed.
    unreadable: bool,
}

/// The bulk changes of one endpoint up to a stamp.
struct Walk {
    upto: u64,
    walk: BulkWalk,
    /// Found and not yet written.
    found: AdvanceBulk,
    /// Deliveries in flight. They are written once their attempt is recorded.
    claimed: Vec<EventId>,
    /// Whether a delivery met damage and can't be written. Then changes that end deliveries are kept, or it would be
    /// open again.
    keep_ends: bool,
    /// Whether everything was found, and the changes can be removed.
    finishes: bool,
}

impl Maintenance {
    /// Writes part of what bulk changes did. Returns false when nothing is left, or everything left must wait.
    pub(super) async fn advance_bulk(&self, work: &mut BulkWork) -> bool {
        let mut turns = self.dispatch.bulk_count();
        while turns > 0
            && let Some((slot, upto)) = self.dispatch.next_bulk(work.after)
        {
            work.after = Some(slot);
            if self.advance_bulk_of(slot, upto, work).await {
                return true;
            }
            turns -= 1;
        }
        false
    }

    async fn advance_bulk_of(&self, slot: Slot, upto: u64, work: &mut BulkWork) -> bool {
        let walk = match work.walks.remove(&slot) {
            Some(walk) => Some(walk),
            None => self.reader.bulk_walk(slot, upto).map(|walk| Walk {
                upto,
                walk,
                found: AdvanceBulk::nothing(slot),
                claimed: Vec::new(),
                keep_ends: false,
                finishes: false,
            }),
        };
        let Some(mut walk) = walk else {
            self.dispatch.forget_bulk(slot, upto);
            return true;
        };
        if walk.found.is_empty() && !walk.finishes {
            match self.find(&mut walk).await {
                Ok(true) => work.unreadable = false,
                Ok(false) => {
                    work.walks.insert(slot, walk);
                    return false;
                }
                Err(error) => {
                    work.walks.insert(slot, walk);
                    return self.wait_to_read(&error, work).await;
                }
            }
        }
        let before = walk.found.len();
        let Some(left) = self.write_bulk(&mut walk).await else {
            return false;
        };
        walk.found = left;
        let advanced = walk.found.len() < before || before == 0;
        if walk.finishes && walk.found.is_empty() {
            self.dispatch.forget_bulk(slot, walk.upto);
        } else {
            work.walks.insert(slot, walk);
        }
        advanced
    }

    /// Looks for more to write. Returns false when everything left is in flight.
    async fn find(&self, walk: &mut Walk) -> Result<bool, StoreError> {
        let found = walk.walk.step().await?;
        let slot = walk.found.slot;
        match found {
            BulkFound::Work(mut found) => {
                let events = std::mem::take(&mut found.events);
                let (claimed, free) = self.dispatch.claimed_of(slot, events);
                walk.claimed.extend(claimed);
                found.events = free;
                walk.found = found;
            }
            BulkFound::Nothing => {}
            BulkFound::End if walk.claimed.is_empty() => {
                walk.found = walk.walk.end(walk.keep_ends);
                walk.finishes = true;
            }
            BulkFound::End => {
                let claimed = std::mem::take(&mut walk.claimed);
                let (claimed, free) = self.dispatch.claimed_of(slot, claimed);
                walk.claimed = claimed;
                walk.found.events.extend(free);
                return Ok(!walk.found.is_empty());
            }
        }
        Ok(true)
    }

    /// After a failed read redb refuses all reads until a commit reopens the file.
    async fn wait_to_read(&self, error: &StoreError, work: &mut BulkWork) -> bool {
        if self.life.is_stopping() {
            return false;
        }
        if !std::mem::replace(&mut work.unreadable, true) {
            tracing::warn!(%error, "the store can't be read; bulk changes wait");
        }
        if !error.is_damage() {
            self.writer.post(Probe);
        }
        tokio::time::sleep_until(clock::deadline(AGAIN_AFTER)).await;
        true
    }

    /// Writes what was found, except what meets damage. Returns what there was no room for; `None` if the daemon is
    /// stopping.
    async fn write_bulk(&self, walk: &mut Walk) -> Option<AdvanceBulk> {
        let nothing = AdvanceBulk::nothing(walk.found.slot);
        let mut parts = vec![std::mem::replace(&mut walk.found, nothing.clone())];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let advance = || part.clone();
            let advanced = self
                .writer
                .submit_until_done(advance, std::future::pending());
            match advanced.await? {
                Ok(left) if left.is_empty() => {}
                Ok(mut left) => {
                    parts.into_iter().rev().for_each(|part| left.append(part));
                    return Some(left);
                }
                Err(Damaged) if part.len() > 1 => {
                    let half = part.len() / 2;
                    let [first, rest] = part.split_at(half);
                    parts.extend([rest, first]);
                }
                Err(Damaged) => walk.keep_ends = true,
            }
        }
        Some(nothing)
    }
}

//! Claims that no request is sent for: they are given back, or the delivery has ended. None of this is the receiver's
//! fault, so nothing is recorded or counted.

use super::Dispatch;
use crate::lifecycle::Phase;
use crate::schedule::Claim;
use std::sync::Arc;
use stormhook_store::maintenance::{EndDamaged, Probe};
use stormhook_store::{QueueEntry, StoreError};

/// Why a claim is not attempted after all.
pub(super) enum Unsent {
    /// Its endpoint was disabled meanwhile, or the daemon stopped before anything was sent: it waits as before.
    Back,
    /// It has ended, or its endpoint was deleted.
    Over,
    /// The daemon lacked this for the request: all deliveries of its endpoint wait for a while.
    Lacking(String),
    /// Its stored rows can't be read now: it waits for a while.
    Unreadable(String),
    /// Its stored rows are damaged or incomplete: it ends.
    Damaged(String),
}

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        // A row of a newer version is not damage: the version that wrote it can read it.
        if error.is_damage() {
            Self::Damaged(error.to_string())
        } else {
            Self::Unreadable(error.to_string())
        }
    }
}

impl Dispatch {
    pub(super) async fn give_back(self: &Arc<Self>, claim: &Claim, unsent: Unsent) {
        if let Unsent::Damaged(what) = &unsent {
            return self.end_damaged(claim.waiting, what).await;
        }
        let now = self.clock.now();
        let mut inner = self.inner();
        match unsent {
            Unsent::Back => inner.schedule.give_back(&claim.waiting),
            Unsent::Over | Unsent::Damaged(_) => {
                inner.schedule.not_sent(claim.waiting.id);
                inner.schedule.ended(claim.waiting.id);
            }
            Unsent::Lacking(what) => {
                inner.schedule.set_back(&claim.waiting, now);
                if inner.lacking.holds_back(now) {
                    tracing::warn!(
                        what,
                        "the daemon can't send; attempts wait and are not recorded"
                    );
                }
            }
            Unsent::Unreadable(what) => {
                inner.schedule.postpone(&claim.waiting, now);
                if inner.unreadable.holds_back(now) {
                    tracing::warn!(
                        what,
                        "deliveries can't be read; they wait and no attempt is recorded"
                    );
                }
                // After a failed read redb refuses everything until the file is reopened, which happens when a commit
                // fails. Without this probe nothing could be read until the next commit.
                if !self.writer.is_failing() && inner.unreadable.wants_probe(now) {
                    self.writer.post(Probe);
                }
            }
        }
        self.pump(&mut inner);
        drop(inner);
        self.maintenance.notify_one();
        self.settled.notify_waiters();
    }

    /// Ends a delivery that can't be sent, or whose outcome can't be recorded, because its stored rows are damaged. It
    /// stays claimed until that is committed.
    pub(super) async fn end_damaged(self: &Arc<Self>, waiting: QueueEntry, what: &str) {
        let id = waiting.id;
        {
            let inner = &mut *self.inner();
            inner.schedule.not_sent(id);
            self.pump(inner);
        }
        let end = EndDamaged {
            delivery: id,
            due: waiting.due,
        };
        // A stop does not wait for commits that fail.
        let given_up = self.life.reached(Phase::Draining);
        let is_ended = match self.writer.submit_until_done(|| end, given_up).await {
            Some(Ok(Some(_))) => {
                tracing::error!(delivery = %id, what, "a delivery is damaged and can't be sent; it has ended as damaged. Run `stormhook check`");
                true
            }
            Some(Ok(None)) => {
                tracing::error!(delivery = %id, what, "a delivery is damaged and is no longer queued. Run `stormhook check`");
                true
            }
            // Its end can't be written because that place is damaged too, or the daemon is stopping. It is set aside
            // again at the next start.
            Some(Err(_)) | None => {
                tracing::error!(delivery = %id, what, "a delivery is damaged and its end could not be recorded; it is no longer queued");
                false
            }
        };
        let mut inner = self.inner();
        if !is_ended {
            inner.schedule.ended(id);
        }
        self.pump(&mut inner);
        drop(inner);
        self.maintenance.notify_one();
        self.settled.notify_waiters();
    }
}

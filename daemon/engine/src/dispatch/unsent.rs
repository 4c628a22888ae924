//! Claims of which no request comes: they are given back, or what is claimed has ended. None of it is the partner's doing, so
//! nothing is recorded or counted.

use super::Dispatch;
use crate::clock;
use crate::lifecycle::Phase;
use crate::schedule::Claim;
use crate::writer::{AGAIN_AFTER, Damaged, SubmitError};
use std::sync::Arc;
use stormhook_store::maintenance::{EndDamaged, Probe};
use stormhook_store::{Delivery, QueueEntry, StoreError};

/// Why a claim is not attempted after all.
pub(super) enum Unsent {
    /// Its endpoint was switched off since, or the daemon stops before anything was sent: it waits as it did.
    Back,
    /// It has ended, or there is no such endpoint.
    Over,
    /// We lacked this for the request: what waits for its endpoint waits for a while.
    Lacking(String),
    /// What is stored of it can't be read at the moment: it waits for a while.
    Unreadable(String),
    /// What is stored of it is damaged, or not all there: it ends.
    Damaged(String),
}

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        // A row of a newer version is no damage: the program that wrote it reads it.
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
                        "attempts wait for what the daemon lacks: none of them is recorded"
                    );
                }
            }
            Unsent::Unreadable(what) => {
                inner.schedule.postpone(&claim.waiting, now);
                if inner.unreadable.holds_back(now) {
                    tracing::warn!(
                        what,
                        "deliveries wait until they can be read: no attempt of them is recorded"
                    );
                }
                // After a read that failed the engine refuses everything until the file is opened anew, as it is when a commit
                // fails: without one nothing could be read again before somebody sends an event.
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

    /// Ends a delivery that can't be sent, or whose outcome can't be recorded, for what is stored of it is damaged. It stays claimed
    /// until that is committed.
    pub(super) async fn end_damaged(self: &Arc<Self>, waiting: QueueEntry, what: &str) {
        let id = waiting.id;
        {
            let inner = &mut *self.inner();
            inner.schedule.not_sent(id);
            self.pump(inner);
        }
        let is_ended = match self.submit_end(waiting).await {
            Some(Ok(Some(_))) => {
                tracing::error!(delivery = %id, what, "a delivery can't be sent and ended as damaged: `stormhook check` names the damage");
                true
            }
            Some(Ok(None)) => {
                tracing::error!(delivery = %id, what, "a delivery is damaged and waits no longer: `stormhook check` names it");
                true
            }
            // The place where its end would be written is damaged too, or the daemon stops: it is set aside again at the next start.
            Some(Err(_)) | None => {
                tracing::error!(delivery = %id, what, "a delivery is damaged, and its end could not be recorded: it waits no longer");
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

    /// Has it ended, trying again where a commit failed, but not when the daemon stops: that waits for nothing of the kind.
    async fn submit_end(
        &self,
        waiting: QueueEntry,
    ) -> Option<Result<Option<Box<Delivery>>, Damaged>> {
        loop {
            let end = EndDamaged {
                delivery: waiting.id,
                due: waiting.due,
            };
            match self.writer.submit(end).await {
                Ok(ended) => return Some(Ok(ended)),
                Err(SubmitError::Damaged) => return Some(Err(Damaged)),
                Err(SubmitError::ShuttingDown) => return None,
                Err(_) => {}
            }
            let again = tokio::time::sleep_until(clock::deadline(AGAIN_AFTER));
            tokio::select! {
                biased;
                () = self.life.reached(Phase::Draining) => return None,
                () = again => {}
            }
        }
    }
}

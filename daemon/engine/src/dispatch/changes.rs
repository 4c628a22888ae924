//! Operators' changes that must not meet an attempt on the wire. Each takes the hold that prevents it as an argument.

use super::{CommandError, Dispatch};
use crate::writer::{Held, SubmitError};
use std::sync::Arc;
use stormhook_store::{
    Attributed, Attribution, Cancel, Delivery, DeliveryId, Endpoint, EndpointId, Recover, Refusal,
    Replay, Retry, UpdateEndpoint,
};
use tokio::sync::OwnedMutexGuard;

/// A delivery that is neither attempted nor changed by anything else until this is dropped.
pub struct Hold {
    dispatch: Arc<Dispatch>,
    id: DeliveryId,
    by: Option<Box<Attribution>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut inner = self.dispatch.inner();
        inner.schedule.release(self.id);
        self.dispatch.pump(&mut inner);
    }
}

/// The turn of one bulk change. No other begins until this is dropped.
pub struct BulkTurn(#[allow(dead_code, reason = "it is held, not read")] OwnedMutexGuard<()>);

impl Held for Retry {
    type Hold = Hold;
}

impl Held for Cancel {
    type Hold = Hold;
}

impl Held for Replay {
    type Hold = Hold;
}

impl Held for Recover {
    type Hold = BulkTurn;
}

impl<C: Held> Held for Attributed<C> {
    type Hold = C::Hold;
}

impl Held for UpdateEndpoint {
    /// A change that discards nothing needs no turn.
    type Hold = Option<BulkTurn>;
}

impl Hold {
    /// Attributes what is done to the delivery.
    #[must_use]
    pub fn by(mut self, by: Attribution) -> Self {
        self.by = Some(Box::new(by));
        self
    }

    fn attributed<C>(&mut self, command: C) -> Attributed<C> {
        let by = self.by.take();
        Attributed { command, by }
    }

    /// Requests an extra attempt of an open delivery, or a new round of an ended one.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn retry(mut self) -> Result<Box<Delivery>, CommandError> {
        let retry = self.attributed(Retry(self.id));
        self.dispatch.clone().submit_holding(self, retry).await
    }

    /// Cancels the delivery.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn cancel(mut self) -> Result<Box<Delivery>, CommandError> {
        let cancel = self.attributed(Cancel(self.id));
        self.dispatch.clone().submit_holding(self, cancel).await
    }

    /// Opens a new round, or the first one. `endpoint` is that of the delivery.
    async fn replay(mut self, endpoint: EndpointId) -> Result<Box<Delivery>, CommandError> {
        let event = self.id.event;
        let replay = self.attributed(Replay { event, endpoint });
        self.dispatch.clone().submit_holding(self, replay).await
    }
}

impl Dispatch {
    /// Keeps a delivery off the wire.
    ///
    /// # Errors
    /// [`CommandError::InFlight`].
    pub fn hold(self: &Arc<Self>, id: DeliveryId) -> Result<Hold, CommandError> {
        self.inner().schedule.hold(id)?;
        Ok(Hold {
            dispatch: Arc::clone(self),
            id,
            by: None,
        })
    }

    /// Sends an event to one endpoint again.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn replay(
        self: &Arc<Self>,
        replay: impl Into<Attributed<Replay>>,
    ) -> Result<Box<Delivery>, CommandError> {
        let Attributed {
            command: replay,
            by,
        } = replay.into();
        let endpoint = self.reader.endpoint(replay.endpoint);
        let endpoint = endpoint.ok_or(Refusal::NotFound)?;
        let mut hold = self.hold(DeliveryId {
            event: replay.event,
            slot: endpoint.slot,
        })?;
        hold.by = by;
        hold.replay(endpoint.id).await
    }

    /// Changes an endpoint.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn update_endpoint(
        &self,
        update: impl Into<Attributed<UpdateEndpoint>>,
    ) -> Result<Arc<Endpoint>, CommandError> {
        let update = update.into();
        let turn = if update.command.change.discard_held {
            Some(self.bulk_turn().await)
        } else {
            None
        };
        self.submit_holding(turn, update).await
    }

    /// Begins a recovery. Waits until no delivery that a discard has ended is on the wire: if it were reopened, it
    /// would be attempted twice at the same time.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn recover(
        &self,
        recover: impl Into<Attributed<Recover>>,
    ) -> Result<Recover, CommandError> {
        let recover = recover.into();
        loop {
            let settled = self.settled.notified();
            // No discard may happen between the check and the commit.
            let turn = self.bulk_turn().await;
            if self.may_recover(recover.command.endpoint)? {
                return self.submit_holding(turn, recover).await;
            }
            drop(turn);
            settled.await;
        }
    }

    async fn bulk_turn(&self) -> BulkTurn {
        BulkTurn(Arc::clone(&self.in_bulk).lock_owned().await)
    }

    fn may_recover(&self, endpoint: EndpointId) -> Result<bool, SubmitError> {
        let Some(endpoint) = self.reader.endpoint(endpoint) else {
            return Ok(true);
        };
        let inner = self.inner();
        if !inner.schedule.has_ended_claims(endpoint.slot) {
            return Ok(true);
        }
        if self.life.is_stopping() {
            return Err(SubmitError::ShuttingDown);
        }
        if self.writer.is_failing() {
            return Err(SubmitError::StoreFailed);
        }
        Ok(false)
    }

    /// Submits a command. The hold lasts until the commit, even if the caller goes away.
    async fn submit_holding<T, C>(&self, hold: C::Hold, command: C) -> Result<T, CommandError>
    where
        T: Send + 'static,
        C: Held<Answer = Result<T, Refusal>> + Send + 'static,
    {
        let writer = Arc::clone(&self.writer);
        let submitted = self
            .runtime
            .spawn(async move { writer.submit_holding(hold, command).await });
        // The task is aborted only with the runtime.
        let answer = submitted.await.unwrap_or(Err(SubmitError::ShuttingDown))?;
        Ok(answer?)
    }
}

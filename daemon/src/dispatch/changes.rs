//! Operators' changes that must not meet an attempt on the wire.

use super::{Dispatch, DispatchError};
use crate::writer::SubmitError;
use std::sync::Arc;
use stormhook_store::{DeliveryId, Done, EndpointId, Op, Recover};

impl Dispatch {
    /// Does an operator's change to one delivery while no attempt of it is on the wire.
    ///
    /// # Errors
    /// One is on the wire, or the writer says no.
    pub async fn change(self: &Arc<Self>, id: DeliveryId, op: Op) -> Result<Done, DispatchError> {
        self.inner().schedule.hold(id)?;
        let held = Held {
            dispatch: Arc::clone(self),
            id,
        };
        let done = self.to_its_end(async move {
            let done = held.dispatch.writer.submit(op).await;
            drop(held);
            done
        });
        Ok(done.await?)
    }

    /// Has an activation done that discards what was held.
    ///
    /// # Errors
    /// The writer says no.
    pub async fn discard(self: &Arc<Self>, op: Op) -> Result<Done, SubmitError> {
        let this = Arc::clone(self);
        let done = self.to_its_end(async move {
            let _turn = this.in_bulk.lock().await;
            this.writer.submit(op).await
        });
        done.await
    }

    /// Has a recover done. What was discarded with an attempt on the wire is waited for: opened again under that, it would be
    /// attempted twice at once.
    ///
    /// # Errors
    /// The writer says no.
    pub async fn recover(self: &Arc<Self>, recover: Recover) -> Result<Done, SubmitError> {
        let this = Arc::clone(self);
        let done = self.to_its_end(async move {
            loop {
                let settled = this.settled.notified();
                // No discard between the look and the commit.
                let turn = this.in_bulk.lock().await;
                if this.may_recover(recover.endpoint)? {
                    return this.writer.submit(Op::Recover(recover)).await;
                }
                drop(turn);
                settled.await;
            }
        });
        done.await
    }

    fn may_recover(&self, endpoint: EndpointId) -> Result<bool, SubmitError> {
        let Some(endpoint) = self.reader.endpoint(endpoint) else {
            return Ok(true);
        };
        let inner = self.inner();
        let mut claimed = inner.schedule.claimed(endpoint.slot);
        if claimed.all(|waiting| endpoint.mark_over(waiting.opened).is_none()) {
            return Ok(true);
        }
        match (inner.stopping, inner.failing) {
            (true, _) => Err(SubmitError::ShuttingDown),
            (false, true) => Err(SubmitError::StoreFailed),
            (false, false) => Ok(false),
        }
    }

    /// Has a change done to its end though its caller goes away: what it holds back must not go before its commit.
    async fn to_its_end(
        &self,
        change: impl Future<Output = Result<Done, SubmitError>> + Send + 'static,
    ) -> Result<Done, SubmitError> {
        let ended = self.runtime.spawn(change).await;
        // It is only ever cut off with the runtime.
        ended.unwrap_or(Err(SubmitError::ShuttingDown))
    }
}

/// A pair that an operator's change owns.
struct Held {
    dispatch: Arc<Dispatch>,
    id: DeliveryId,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.dispatch.inner();
        inner.schedule.release(self.id);
        self.dispatch.pump(&mut inner);
    }
}

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
        Ok(self.submit_holding(held, op).await?)
    }

    /// Has an activation done that discards what was held.
    ///
    /// # Errors
    /// The writer says no.
    pub async fn discard(&self, op: Op) -> Result<Done, SubmitError> {
        let turn = Arc::clone(&self.in_bulk).lock_owned().await;
        self.submit_holding(turn, op).await
    }

    /// Has a recover done. What was discarded with an attempt on the wire is waited for: opened again under that, it would be
    /// attempted twice at once.
    ///
    /// # Errors
    /// The writer says no.
    pub async fn recover(&self, recover: Recover) -> Result<Done, SubmitError> {
        loop {
            let settled = self.settled.notified();
            // No discard between the look and the commit.
            let turn = Arc::clone(&self.in_bulk).lock_owned().await;
            if self.may_recover(recover.endpoint)? {
                return self.submit_holding(turn, Op::Recover(recover)).await;
            }
            drop(turn);
            settled.await;
        }
    }

    fn may_recover(&self, endpoint: EndpointId) -> Result<bool, SubmitError> {
        let Some(endpoint) = self.reader.endpoint(endpoint) else {
            return Ok(true);
        };
        let inner = self.inner();
        if !inner.schedule.has_ended_claims(endpoint.slot) {
            return Ok(true);
        }
        if self.is_stopping() {
            return Err(SubmitError::ShuttingDown);
        }
        if self.writer.is_failing() {
            return Err(SubmitError::StoreFailed);
        }
        Ok(false)
    }

    /// Hands an operation to the writer, and what it holds back stays held until its commit, also when the caller goes away.
    async fn submit_holding(&self, held: impl Send + 'static, op: Op) -> Result<Done, SubmitError> {
        let writer = Arc::clone(&self.writer);
        let submitted = self.runtime.spawn(async move {
            let done = writer.submit(op).await;
            drop(held);
            done
        });
        // It is only ever cut off with the runtime.
        submitted.await.unwrap_or(Err(SubmitError::ShuttingDown))
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

//! What a caller gets for an operation: a reason why it was not queued, or an answer once its commit is durable.

use std::pin::Pin;
use std::task::{Context, Poll};
use stormhook_store::{Done, Op};
use tokio::sync::oneshot;

/// Why an operation was not done, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; nothing was stored.
    #[error("too much is waiting to be stored")]
    Busy,
    /// Free space is below `limits.disk_reserve`; nothing was stored.
    #[error("the disk is nearly full")]
    StorageFull,
    /// The daemon is stopping; nothing was stored.
    #[error("the daemon is stopping")]
    ShuttingDown,
    /// The stored record is damaged; nothing was changed.
    #[error("what is stored of it is damaged")]
    Damaged,
    /// The commit failed; it is unknown whether it happened.
    #[error("the store failed")]
    StoreFailed,
}

/// The channel for the answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) sender: oneshot::Sender<Result<Done, SubmitError>>,
    /// Whether the operation is counted among those with an idempotency key.
    pub(super) keyed: bool,
}

/// An operation that did not get into the queue.
#[derive(Debug)]
pub struct NotQueued {
    /// The operation, as it came.
    pub op: Box<Op>,
    /// Why.
    pub why: SubmitError,
}

/// An operation that queued: resolves when its commit is durable.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Done, SubmitError>>,
    known: Option<Result<Done, SubmitError>>,
}

impl Pending {
    pub(super) fn of(answer: oneshot::Receiver<Result<Done, SubmitError>>) -> Self {
        Self {
            answer,
            known: None,
        }
    }

    /// Waits until the answer is known, and keeps it for the next poll.
    pub async fn wait(&mut self) {
        if self.known.is_none() {
            let answer = (&mut self.answer).await;
            self.known = Some(answer.unwrap_or(Err(SubmitError::StoreFailed)));
        }
    }
}

impl Future for Pending {
    type Output = Result<Done, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(known) = self.known.take() {
            return Poll::Ready(known);
        }
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or(Err(SubmitError::StoreFailed)))
    }
}

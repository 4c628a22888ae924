//! What a caller gets for an operation: an error if it was not queued, or an answer once its commit is durable.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use stormhook_store::maintenance::{
    AdvanceBulk, AdvancePurge, EndDamaged, FlushStats, Probe, Reseal, Sweep, TouchApiKeys,
};
use stormhook_store::{
    AcceptEmitted, Attributed, BeginPurge, CreateApiKey, CreateEndpoint, DeleteEndpoint,
    DeleteOrganization, Done, NewEvent, Op, Operation, RecordAudit, RevokeApiKey, RotateSecret,
    Settle,
};
use tokio::sync::oneshot;

/// An operation that may be committed regardless of attempts on the wire.
pub trait Free: Operation {}

impl Free for NewEvent {}
impl Free for AcceptEmitted {}
impl Free for CreateEndpoint {}
impl Free for DeleteEndpoint {}
impl Free for RotateSecret {}
impl Free for Box<Settle> {}
impl Free for AdvanceBulk {}
impl Free for EndDamaged {}
impl Free for FlushStats {}
impl Free for Sweep {}
impl Free for Reseal {}
impl Free for Probe {}
impl Free for TouchApiKeys {}
impl Free for CreateApiKey {}
impl Free for RevokeApiKey {}
impl Free for RecordAudit {}
impl Free for BeginPurge {}
impl Free for DeleteOrganization {}
impl Free for AdvancePurge {}
impl<C: Free> Free for Attributed<C> {}

/// A command that callers may submit at any time.
pub trait Command: Free {}

impl Command for NewEvent {}
impl Command for AcceptEmitted {}
impl Command for CreateEndpoint {}
impl Command for DeleteEndpoint {}
impl Command for RotateSecret {}
impl Command for CreateApiKey {}
impl Command for RevokeApiKey {}
impl Command for RecordAudit {}
impl Command for BeginPurge {}
impl Command for DeleteOrganization {}
impl<C: Command> Command for Attributed<C> {}

/// A command that must not meet an attempt on the wire.
pub trait Held: Operation {
    /// Keeps such attempts off the wire until it is dropped.
    type Hold: Send + 'static;
}

/// Why an operation was not done, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; nothing was stored.
    #[error("the write queue is full")]
    Busy,
    /// Free space is below `limits.disk_reserve`; nothing was stored.
    #[error("the disk is nearly full")]
    StorageFull,
    /// The daemon is stopping; nothing was stored.
    #[error("the daemon is stopping")]
    ShuttingDown,
    /// The stored record is damaged; nothing was changed.
    #[error("the stored record is damaged")]
    Damaged,
    /// The database can't be reached; nothing was stored.
    #[error("the database can't be reached")]
    Unreachable,
    /// The commit failed; it is unknown whether it happened.
    #[error("the store failed")]
    StoreFailed,
}

/// The channel for the answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) sender: oneshot::Sender<Result<Done, SubmitError>>,
    /// Whether the operation counts among those with an idempotency key.
    pub(super) keyed: bool,
}

/// An operation that was not queued.
#[derive(Debug)]
pub struct NotQueued {
    /// The operation, unchanged.
    pub op: Box<Op>,
    /// Why.
    pub why: SubmitError,
}

/// A queued operation. Resolves when its commit is durable.
#[derive(Debug)]
pub struct Pending<O> {
    answer: oneshot::Receiver<Result<Done, SubmitError>>,
    known: Option<Result<Done, SubmitError>>,
    of: PhantomData<fn() -> O>,
}

impl<O: Operation> Pending<O> {
    pub(super) fn of(answer: oneshot::Receiver<Result<Done, SubmitError>>) -> Self {
        Self {
            answer,
            known: None,
            of: PhantomData,
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

impl<O: Operation> Future for Pending<O> {
    type Output = Result<O::Answer, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(known) = self.known.take() {
            return Poll::Ready(answer_of::<O>(known));
        }
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer_of::<O>(answer.unwrap_or(Err(SubmitError::StoreFailed))))
    }
}

/// Returns the answer to an operation.
fn answer_of<O: Operation>(done: Result<Done, SubmitError>) -> Result<O::Answer, SubmitError> {
    O::answer(done?).map_err(|damage| {
        tracing::error!(damage, "an operation met damage in the store");
        SubmitError::Damaged
    })
}

//! The writer: one thread commits the queued operations durably. Nothing is acknowledged before its commit.
//!
//! The queue is bounded in operations and in bytes, and so is each organization's share: a full queue refuses, it never
//! grows. A commit is bounded in operations and in rows, and organizations take turns in it. Outcomes of attempts
//! always find room: the number of attempts in flight bounds them. After a failed commit, outcomes are kept and
//! submitted again, no attempt starts, and a commit is tried every second until one succeeds
//! (docs/adr/0002-group-commit.md).

mod committer;
mod pace;
mod queue;
mod space;
mod submission;
mod turns;

pub use committer::Committer;
pub use space::Space;
pub use submission::{Command, Free, Held, NotQueued, Pending, SubmitError};

use crate::clock::{self, StoreClock};
use crate::store::Store;
use queue::{Lane, Queue, Request, Size};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_store::{Applied, DeliveryId, EmittedEvent, NewEvent, Op, Operation};
use submission::Reply;
use tokio::sync::{Notify, oneshot, watch};

/// The size of an operation beyond its event's data, in bytes.
const OP_BYTES: usize = 256;
/// How often a commit is tried while commits fail.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How long an operation waits after a failed commit before it is tried again.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The operation met damage, and nothing of it was done.
#[derive(Debug)]
pub struct Damaged;

/// An observer of commits.
pub trait Committed: Send + Sync {
    /// A commit is durable. Called in commit order, before the callers are answered. `settled` names, for each
    /// operation that recorded an attempt, the delivery.
    fn committed(&self, applied: &mut Applied, settled: &[Option<DeliveryId>]);
    /// An outcome met damage and will never be recorded.
    fn set_aside(&self, delivery: DeliveryId, damage: &str);
    /// Commits fail, so outcomes can't be recorded and no attempt may start; or they succeed again.
    fn failing(&self, failing: bool);
}

/// Queues operations for the writer's thread.
pub struct Writer {
    queue: Mutex<Queue>,
    hashes: RandomState,
    ready: Condvar,
    failing: AtomicBool,
    damaged: AtomicBool,
    refusing: AtomicBool,
    /// Another process has taken the store over.
    taken_over: watch::Sender<bool>,
    keyed: AtomicU64,
    /// Operations left the queue.
    freed: Notify,
    /// Like `ready`, for a committer that is a task.
    arrived: Notify,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// Returns a queue that no thread serves yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            hashes: RandomState::new(),
            ready: Condvar::new(),
            failing: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            taken_over: watch::channel(false).0,
            keyed: AtomicU64::new(0),
            freed: Notify::new(),
            arrived: Notify::new(),
        })
    }

    /// Returns the committer, to run on a thread of its own or whenever the caller decides. `look` returns the space
    /// that is left.
    pub fn committer(
        self: &Arc<Self>,
        store: Store,
        clock: Arc<StoreClock>,
        told: Arc<dyn Committed>,
        look: impl Fn() -> Space + Send + 'static,
    ) -> Committer {
        Committer::new(Arc::clone(self), store, clock, told, Box::new(look))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an operation and waits for its durable commit.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit<O: Free>(&self, operation: O) -> Result<O::Answer, SubmitError> {
        self.enqueue(operation).map_err(|e| e.why)?.await
    }

    /// Queues an operation.
    ///
    /// # Errors
    /// There is no room, or the daemon is stopping. The operation is returned.
    pub fn enqueue<O: Free>(&self, operation: O) -> Result<Pending<O>, NotQueued> {
        self.admit(operation.into())
    }

    /// Queues a command that must not meet an attempt, and waits for its durable commit. `hold` keeps attempts off the
    /// wire until the commit is announced.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit_holding<C: Held>(
        &self,
        hold: C::Hold,
        command: C,
    ) -> Result<C::Answer, SubmitError> {
        let pending = self.admit::<C>(command.into());
        let answer = pending.map_err(|e| e.why)?.await;
        drop(hold);
        answer
    }

    /// Queues an event as soon as there is room: back-pressure for a stream. `still_takes` is called before each try.
    ///
    /// # Errors
    /// The error of `still_takes`, or the daemon is stopping.
    pub async fn enqueue_with_room(
        &self,
        event: NewEvent,
        still_takes: impl Fn() -> Result<(), SubmitError>,
    ) -> Result<Pending<NewEvent>, SubmitError> {
        let mut op = Op::Accept(event);
        loop {
            still_takes()?;
            match self.admit(op) {
                Ok(pending) => return Ok(pending),
                Err(NotQueued {
                    op: back,
                    why: SubmitError::Busy,
                }) => op = *back,
                Err(NotQueued { why, .. }) => return Err(why),
            }
            self.room(self.size(&op).0).await;
        }
    }

    /// Queues an operation whose answer is that of an `O`.
    ///
    /// # Errors
    /// There is no room, or the daemon is stopping. The operation is returned.
    fn admit<O: Operation>(&self, op: Op) -> Result<Pending<O>, NotQueued> {
        let (size, keyed) = self.size(&op);
        let mut queue = self.queue();
        if let Err(why) = queue.admit(size) {
            return Err(NotQueued {
                op: Box::new(op),
                why,
            });
        }
        let (sender, answer) = oneshot::channel();
        self.keyed.fetch_add(u64::from(keyed), Ordering::Relaxed);
        let reply = Some(Reply { sender, keyed });
        self.push(&mut queue, Request { op, size, reply });
        Ok(Pending::of(answer))
    }

    /// Commits an operation, and tries again after a failed commit until `given_up` resolves. `None` if it did, or if
    /// the queue is closed.
    pub async fn submit_until_done<O: Free>(
        &self,
        operation: impl Fn() -> O,
        given_up: impl Future<Output = ()>,
    ) -> Option<Result<O::Answer, Damaged>> {
        let mut given_up = pin!(given_up);
        loop {
            match self.submit(operation()).await {
                Ok(answer) => return Some(Ok(answer)),
                Err(SubmitError::Damaged) => return Some(Err(Damaged)),
                Err(SubmitError::ShuttingDown) => return None,
                Err(_) => {}
            }
            tokio::select! {
                biased;
                () = &mut given_up => return None,
                () = tokio::time::sleep_until(clock::deadline(AGAIN_AFTER)) => {}
            }
        }
    }

    /// Waits until there is room for an operation of this size.
    async fn room(&self, size: Size) {
        loop {
            // Subscribes before the check, so that no notification is missed.
            let freed = self.freed.notified();
            if self.queue().has_room(size) {
                return;
            }
            freed.await;
        }
    }

    /// Returns how much room an operation needs, and whether it has an idempotency key.
    fn size(&self, op: &Op) -> (Size, bool) {
        match op {
            Op::Accept(event) => {
                let size = Size {
                    bytes: event.data.len() + OP_BYTES,
                    lane: Some(Lane(self.hashes.hash_one(&event.organization))),
                };
                (size, event.idempotency_key.is_some())
            }
            Op::AcceptEmitted(emitted) => {
                let bytes = |emitted: &EmittedEvent| emitted.event.data.len() + OP_BYTES;
                let size = Size {
                    bytes: emitted.events.iter().map(bytes).sum(),
                    lane: Some(Lane(self.hashes.hash_one(&emitted.organization))),
                };
                (size, false)
            }
            _ => {
                let size = Size {
                    bytes: OP_BYTES,
                    lane: None,
                };
                (size, false)
            }
        }
    }

    /// Returns the number of operations with an idempotency key that wait for their commit.
    pub fn keyed_in_flight(&self) -> u64 {
        self.keyed.load(Ordering::Relaxed)
    }

    /// Queues an outcome or maintenance, which no caller waits for. Always finds room.
    pub fn post(&self, operation: impl Free) {
        let op = operation.into();
        let mut queue = self.queue();
        self.push(
            &mut queue,
            Request {
                op,
                size: Size {
                    bytes: 0,
                    lane: None,
                },
                reply: None,
            },
        );
    }

    fn push(&self, queue: &mut Queue, request: Request) {
        // The first to queue wakes the writer; the others join its commit.
        if queue.push(request) {
            self.ready.notify_one();
            self.arrived.notify_one();
        }
    }

    /// Accepts nothing more. The thread ends once everything in the queue is committed.
    pub fn close(&self) {
        self.queue().closed = true;
        self.ready.notify_one();
        self.freed.notify_waiters();
        self.arrived.notify_one();
    }

    /// Whether the last commit failed, and none has succeeded since.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether commits fail because the file is damaged.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether the last event met damage where events are written. Other commits succeed.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Another process has taken the store over.
    pub(crate) fn set_taken_over(&self) {
        self.taken_over.send_replace(true);
    }

    /// Resolves when another process has taken the store over, so that this one must end.
    pub async fn taken_over(&self) {
        let mut taken_over = self.taken_over.subscribe();
        let _closed = taken_over.wait_for(|taken_over| *taken_over).await;
    }

    fn set_damaged(&self, damaged: bool) {
        self.damaged.store(damaged, Ordering::Relaxed);
    }

    /// Waits until there is work, or for `timeout`. Returns false if there will never be any more.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut queue = self.queue();
        while queue.waiting() == 0 {
            if queue.closed {
                return false;
            }
            queue = match timeout {
                None => self
                    .ready
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    let (queue, waited) = self
                        .ready
                        .wait_timeout(queue, timeout)
                        .unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() {
                        return true;
                    }
                    queue
                }
            };
        }
        true
    }

    /// Waits like the thread does, on a runtime's clock: for work, or for the next probe while commits fail. Returns
    /// false if there will never be any more.
    pub async fn work(&self) -> bool {
        loop {
            let arrived = self.arrived.notified();
            {
                let queue = self.queue();
                if queue.waiting() > 0 || queue.closed {
                    return queue.waiting() > 0;
                }
            }
            if !self.is_failing() {
                arrived.await;
            } else if tokio::time::timeout(PROBE_EVERY, arrived).await.is_err() {
                return true;
            }
        }
    }

    /// Returns the number of operations in no commit yet.
    fn queued(&self) -> usize {
        self.queue().waiting()
    }

    /// Moves the operations that have arrived to the writer's thread.
    fn fetch(&self, into: &mut VecDeque<Request>) {
        self.queue().fetch(into);
    }

    /// Frees the room of operations that are in a commit now.
    fn free(&self, taken: &[Request]) {
        self.queue().taken(taken);
        self.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;

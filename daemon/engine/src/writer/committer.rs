//! The writer's thread: makes one commit after another of the queued operations, announces each, and answers the
//! callers.
//! It also decides what happens to the operations of a failed commit (docs/adr/0002-group-commit.md).

use super::pace::{self, Pace};
use super::queue::Request;
use super::space::Space;
use super::submission::{Reply, SubmitError};
use super::turns::Turns;
use super::{Committed, PROBE_EVERY, Writer};
use crate::clock::{Moment, StoreClock};
use crate::store::{Reader, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stormhook_store::maintenance::Probe;
use stormhook_store::{DeliveryId, Done, Op, StoreError};

/// How often free space is checked.
const SPACE_EVERY: Duration = Duration::from_millis(200);
/// The thread's side of the writer, which makes the commits.
pub struct Committer {
    writer: Arc<Writer>,
    store: Store,
    reader: Reader,
    clock: Arc<StoreClock>,
    told: Arc<dyn Committed>,
    look: Box<dyn Fn() -> Space + Send>,
    /// Operations that were fetched from the queue and are in no commit yet.
    turns: Turns,
    /// A buffer for fetching them.
    fetched: VecDeque<Request>,
    /// Outcomes of a failed commit, to be submitted again.
    kept: Vec<Op>,
    /// The deliveries whose outcomes the failed commit has.
    in_doubt_settled: Vec<Option<DeliveryId>>,
    space: Option<(Moment, Space)>,
    /// When the last commit started, and how many operations it held.
    last_commit: Option<(Moment, usize)>,
    pace: Pace,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committer")
    }
}

impl Committer {
    pub(super) fn new(
        writer: Arc<Writer>,
        store: Store,
        clock: Arc<StoreClock>,
        told: Arc<dyn Committed>,
        look: Box<dyn Fn() -> Space + Send>,
    ) -> Self {
        Self {
            writer,
            reader: store.reader(),
            store,
            clock,
            told,
            look,
            turns: Turns::default(),
            fetched: VecDeque::new(),
            kept: Vec::new(),
            in_doubt_settled: Vec::new(),
            space: None,
            last_commit: None,
            pace: Pace::default(),
        }
    }

    /// Makes commits until the writer is closed and everything in the queue is committed. Runs on a thread of its own.
    pub fn run(mut self) {
        loop {
            let failing = self.writer.is_failing();
            if !self.writer.wait(failing.then_some(PROBE_EVERY)) {
                break;
            }
            if !failing {
                self.keep_distance();
            }
            self.commit_queued();
        }
        self.finish();
    }

    /// Makes one commit of the queued operations, and blocks meanwhile. With nothing queued it does nothing, unless
    /// commits fail: then it tries one.
    pub fn commit_queued(&mut self) {
        let driver = self.store.driver();
        driver.block_on(self.commit_next());
    }

    /// Like [`Committer::commit_queued`], in a task.
    pub async fn commit_next(&mut self) {
        let requests = self.take();
        self.commit(requests).await;
    }

    /// Takes as many queued operations as fit in one commit.
    fn take(&mut self) -> Vec<Request> {
        self.writer.fetch(&mut self.fetched);
        self.turns.add(&mut self.fetched);
        let turns = &mut self.turns;
        let taken = self
            .reader
            .weigh(|weights| turns.take(|op| weights.rows(op)));
        self.writer.free(&taken);
        taken
    }

    /// Nothing more will be queued. Blocks until all is done.
    pub fn finish(self) {
        let driver = self.store.driver();
        driver.block_on(self.end());
    }

    /// Like [`Committer::finish`], in a task.
    pub async fn end(mut self) {
        // One last try for unrecorded outcomes. Deliveries that stay unrecorded are due again at the next start.
        if !self.kept.is_empty() {
            self.commit(Vec::new()).await;
        }
        let random = self.clock.environment().random_u128();
        self.store.leave(self.clock.both(), random).await;
    }

    /// Spaces commits; operations that are queued meanwhile go into the next one. A large file needs this to keep
    /// `quick_repair` within its rate; with many callers it makes commits larger.
    fn keep_distance(&mut self) {
        let Some((started, ops)) = self.last_commit else {
            return;
        };
        let repair = pace::repair(self.space().file_bytes);
        let gather = self.pace.apart(ops);
        if let Some(rest) = repair.max(gather).checked_sub(started.elapsed()) {
            std::thread::sleep(rest);
            self.pace.waited(gather, self.writer.queued());
        }
    }

    fn space(&mut self) -> Space {
        if let Some((looked, space)) = self.space
            && looked.elapsed() < SPACE_EVERY
        {
            return space;
        }
        let space = (self.look)();
        self.space = Some((Moment::now(), space));
        space
    }

    async fn commit(&mut self, requests: Vec<Request>) {
        let full = requests.iter().any(|r| is_event(&r.op)) && self.space().free_bytes == 0;
        let settled = self.settle_in_doubt().await;
        let mut work = Work::of_outcomes(std::mem::take(&mut self.kept));
        for request in requests {
            if full && is_event(&request.op) && request.reply.is_some() {
                answer(&self.writer, request.reply, Err(SubmitError::StorageFull));
                continue;
            }
            work.push(request.op, request.reply);
        }
        if let Err(e) = settled {
            self.failed(&e, work);
            return;
        }
        if work.ops.is_empty() {
            if !self.writer.is_failing() {
                return;
            }
            work.push(Op::Probe(Probe), None);
        }
        self.last_commit = Some((Moment::now(), work.ops.len()));
        if let Err(not) = self.commit_once(work).await {
            if not.error.is_damage() {
                self.commit_in_parts(*not).await;
            } else {
                self.failed(&not.error, not.work);
            }
        }
    }

    /// Makes one commit, announces it and answers the callers. Returns what could not be committed.
    async fn commit_once(&mut self, work: Work) -> Result<(), Box<NotCommitted>> {
        let settled = settled(&work.ops);
        let (now, random) = (self.clock.both(), self.clock.environment().random_u128());
        match self.store.apply(&work.ops, now, random).await {
            Ok(mut applied) => {
                self.succeeded();
                if self.writer.is_refusing() && work.ops.iter().any(is_event) {
                    self.writer.refusing.store(false, Ordering::Relaxed);
                    tracing::info!("events are accepted again");
                }
                self.told.committed(&mut applied, &settled);
                for (reply, done) in work.replies.into_iter().zip(applied.done) {
                    answer(&self.writer, reply, Ok(done));
                }
                Ok(())
            }
            Err(error) => {
                self.in_doubt_settled = settled;
                Err(Box::new(NotCommitted { error, work }))
            }
        }
    }

    /// After a commit that met damage: finds the affected operations by bisection, sets them aside, and commits the
    /// others. If even an empty commit meets damage, nothing can be committed.
    async fn commit_in_parts(&mut self, whole: NotCommitted) {
        let probe = Work::of_outcomes(vec![Op::Probe(Probe)]);
        if let Err(probe) = self.commit_once(probe).await {
            self.failed(&probe.error, whole.work);
            return;
        }
        tracing::warn!(damage = %whole.error, "a commit met damage; the affected operations are set aside. Run `stormhook check`");
        // The next part is the last element.
        let mut parts = Vec::new();
        self.split(whole, &mut parts);
        while let Some(part) = parts.pop() {
            match self.commit_once(part).await {
                Ok(()) => {}
                Err(not) if not.error.is_damage() => self.split(*not, &mut parts),
                Err(not) => return self.failed(&not.error, not.work.and_all(parts)),
            }
        }
    }

    /// Splits a part that met damage in two. A single operation is set aside.
    fn split(&self, not: NotCommitted, parts: &mut Vec<Work>) {
        let NotCommitted { error, mut work } = not;
        if work.ops.len() <= 1 {
            self.set_aside(&error, work);
            return;
        }
        let rest = work.split_off(work.ops.len() / 2);
        parts.extend([rest, work]);
    }

    /// Sets aside an operation that meets damage by itself.
    fn set_aside(&self, damage: &StoreError, part: Work) {
        let what = damage.to_string();
        let of_event = part.ops.iter().any(is_event);
        if of_event && !self.writer.refusing.swap(true, Ordering::Relaxed) {
            tracing::error!(%damage, "the store is damaged where events are written; no event is accepted. Stop the daemon and run `stormhook compact`, or restore a backup");
        }
        for (op, reply) in part.ops.into_iter().zip(part.replies) {
            if let Op::Settle(settle) = &op {
                self.told.set_aside(settle.delivery, &what);
            }
            let said = match op {
                // No row that this event names is damaged: its producer sends it again.
                Op::Accept(_) | Op::AcceptEmitted(_) => Err(SubmitError::StoreFailed),
                _ => Ok(Done::Damaged(what.clone())),
            };
            answer(&self.writer, reply, said);
        }
    }

    /// Resolves a commit in doubt. Outcomes that it recorded are not recorded again.
    async fn settle_in_doubt(&mut self) -> Result<(), StoreError> {
        if !self.writer.is_failing() {
            return Ok(());
        }
        if let Some(mut applied) = self.store.resolve_in_doubt().await? {
            let settled = std::mem::take(&mut self.in_doubt_settled);
            // Behind the recorded outcomes are those that arrived since.
            let recorded = settled.iter().flatten().count().min(self.kept.len());
            self.kept.drain(..recorded);
            self.told.committed(&mut applied, &settled);
        }
        Ok(())
    }

    fn failed(&mut self, error: &StoreError, work: Work) {
        let why = if error.is_disk_full() {
            SubmitError::StorageFull
        } else if error.is_unreachable() {
            SubmitError::Unreachable
        } else {
            SubmitError::StoreFailed
        };
        if error.is_taken_over() {
            self.writer.set_taken_over();
        }
        self.kept.clear();
        for (op, reply) in work.ops.into_iter().zip(work.replies) {
            if matches!(op, Op::Settle(_)) {
                self.kept.push(op);
            }
            answer(&self.writer, reply, Err(why));
        }
        self.writer.set_damaged(error.is_damage());
        if self.writer.failing.swap(true, Ordering::Relaxed) {
            // Callers that retry make thousands of these per second, and the log may be on that disk.
            tracing::debug!(%error, "a commit failed again");
        } else if error.is_damage() {
            tracing::error!(%error, "the store is damaged where every commit needs it; nothing is accepted or delivered. Stop the daemon and run `stormhook compact`, or restore a backup");
            self.told.failing(true);
        } else {
            tracing::error!(%error, "a commit failed; no attempt starts until one succeeds");
            self.told.failing(true);
        }
    }

    fn succeeded(&mut self) {
        if self.writer.failing.swap(false, Ordering::Relaxed) {
            self.writer.set_damaged(false);
            tracing::info!("commits recovered");
            self.told.failing(false);
        }
    }
}

fn is_event(op: &Op) -> bool {
    matches!(op, Op::Accept(_) | Op::AcceptEmitted(_))
}

/// The operations that could not be committed, and why.
struct NotCommitted {
    error: StoreError,
    work: Work,
}

/// The operations of a commit, with the channels for their answers.
#[derive(Default)]
struct Work {
    ops: Vec<Op>,
    replies: Vec<Option<Reply>>,
}

impl Work {
    /// Returns operations that no caller waits for.
    fn of_outcomes(ops: Vec<Op>) -> Self {
        let replies = ops.iter().map(|_| None).collect();
        Self { ops, replies }
    }

    fn push(&mut self, op: Op, reply: Option<Reply>) {
        self.ops.push(op);
        self.replies.push(reply);
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            ops: self.ops.split_off(at),
            replies: self.replies.split_off(at),
        }
    }

    /// Joins this and the others, the last of which comes next.
    fn and_all(mut self, others: Vec<Self>) -> Self {
        for other in others.into_iter().rev() {
            self.ops.extend(other.ops);
            self.replies.extend(other.replies);
        }
        self
    }
}

/// Returns the deliveries whose attempts a commit records.
fn settled(ops: &[Op]) -> Vec<Option<DeliveryId>> {
    ops.iter()
        .map(|op| match op {
            Op::Settle(settle) => Some(settle.delivery),
            _ => None,
        })
        .collect()
}

fn answer(writer: &Writer, reply: Option<Reply>, result: Result<Done, SubmitError>) {
    if let Some(reply) = reply {
        // Before the answer, so that a caller that has it sees that the request no longer waits.
        writer
            .keyed
            .fetch_sub(u64::from(reply.keyed), Ordering::Relaxed);
        // A caller that went away learns nothing; its event is stored nevertheless.
        let _gone = reply.sender.send(result);
    }
}

//! The lane: makes one durable commit for each batch.

mod conflicts;
mod moves;
mod open;
mod ring;

use crate::cluster::Shard;
use crate::cluster::clock::Clock;
use crate::cluster::seat::{Lease, Taken, now};
use crate::convert::{column, number};
use crate::fetch::fetch;
use crate::fresh::{Place, Placed};
use crate::link::{Link, failed};
use crate::load;
use crate::memory::Shared;
use crate::options::Options;
use crate::ownership::Cluster;
use crate::partitions::{Days, days_of_keys};
use crate::read::Reader;
use crate::rows::{Fetched, Needs};
use crate::schema;
use crate::staged::{Moving, Staged, decide};
use crate::write::commit;
use ring::Ring;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stormhook_store::backend::{Fingerprint, Limits};
use stormhook_store::{
    Applied, Change, Delivery, DeliveryId, EmittedEvent, EventId, Now, Op, Slot, StoreError,
};
use tokio::sync::watch;
use tokio_postgres::types::Type;

/// How many rows of open deliveries are kept in memory, so that their next outcome needs no question.
const KNOWN: usize = 65_536;
/// A batch asks for rows that the rows before name: a key, then its event, then its delivery.
const ROUNDS: usize = 8;

/// The one writer of this daemon's shards.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    link: Arc<Link>,
    incarnation: i64,
    days: Days,
    /// Rows of open deliveries.
    known: HashMap<DeliveryId, Delivery>,
    /// The last commits.
    ring: Ring,
    /// A failed commit that may have happened.
    in_doubt: Option<InDoubt>,
    /// Whether the connection broke, so that the lane has to be looked at again.
    broken: bool,
    /// Whether the last commits conflicted with other transactions.
    conflicts: bool,
    /// Shards to give, until that is committed.
    to_give: BTreeSet<Shard>,
    /// Moves that were made and not announced yet.
    moved: Vec<Change>,
    cluster: Cluster,
}

/// A commit that was tried.
#[derive(Debug)]
struct InDoubt {
    staged: Box<Staged>,
    /// Whether it only moved shards, and had none of the batch's operations.
    is_move: bool,
}

impl Store {
    /// Opens the store in a database that has the schema: takes a seat, and the shards that are free.
    ///
    /// # Errors
    /// The database can't be reached or refuses, or its schema has another version.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let link = Link::open(&options).await?;
        schema::expect(&link).await?;
        let (seat, token, at_rest) = Taken::take(&link, &options).await?;
        let sent = now();
        let renewed = seat.renew(&link, options.lease).await?;
        let at = renewed.ok_or(StoreError::TakenOver)?;
        let lease = Lease::new(options.lease, sent);
        let clock = Clock::new(at, sent);
        let (memory, incarnation) = load::lane(&link, seat.seat, at_rest).await?;
        let days = Days::load(&link, &options.schema).await?;
        let questions = Link::open(&options).await?;
        let shared = Shared::new(options, memory, questions, seat.seat, (lease, clock));
        let cluster = Cluster {
            seat,
            view: watch::channel(Arc::default()).0,
            shared: Arc::clone(&shared),
            loading: Arc::default(),
            moves: Arc::default(),
            token: token.into(),
            takeovers: Arc::default(),
            remade: Arc::default(),
        };
        let mut store = Self {
            shared,
            link,
            incarnation,
            days,
            known: HashMap::new(),
            ring: Ring::default(),
            in_doubt: None,
            broken: false,
            conflicts: false,
            to_give: BTreeSet::new(),
            moved: Vec::new(),
            cluster,
        };
        store.take_shards().await?;
        Ok(store)
    }

    /// Returns this daemon's place among those on the database.
    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Returns a reader beside this writer.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Runs a batch in one durable transaction. `random` makes ids differ.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`]: nothing was stored. [`StoreError::InDoubt`]: not known yet; call
    /// [`Store::resolve_in_doubt`] until it succeeds. Until then every batch fails.
    pub async fn apply(
        &mut self,
        ops: impl AsRef<[Op]>,
        now: impl Into<Now>,
        random: u128,
    ) -> Result<Applied, StoreError> {
        if self.broken {
            let what = "an earlier commit is in doubt";
            return Err(StoreError::InDoubt(what.to_owned()));
        }
        let now = now.into();
        let Err(error) = self.try_with_moves(ops.as_ref(), now, random).await else {
            return self.merged().ok_or_else(|| {
                StoreError::InDoubt("the commit was made, but nothing was staged for it".to_owned())
            });
        };
        // The fence fails too if the server behind a pooler is another one, which lacks the last commits.
        let is_behind = error.is_taken_over();
        // A server that is shut down may say so before its connection is seen to be closed.
        if !is_behind && !self.link.client.is_closed() && !error.is_unreachable() {
            // The database answered: it rolled the transaction back.
            self.in_doubt = None;
            return Err(StoreError::NotCommitted(Box::new(error)));
        }
        self.broken = true;
        match self.resolve_in_doubt().await {
            Ok(Some(applied)) => Ok(applied),
            Ok(None) if is_behind => {
                let what = "it had lost the last commits";
                let error = StoreError::Unreachable(what.to_owned());
                Err(StoreError::NotCommitted(Box::new(error)))
            }
            Ok(None) => Err(StoreError::NotCommitted(Box::new(error))),
            Err(taken_over) if taken_over.is_taken_over() => {
                self.broken = false;
                Err(taken_over)
            }
            Err(_) => Err(StoreError::InDoubt(error.to_string())),
        }
    }

    /// Decides a batch on what was fetched. Returns the rows that it needs if some are missing.
    fn decide(
        &self,
        batch: (&[Op], Now, u128),
        fetched: &Fetched,
        moving: &Moving,
    ) -> Result<Result<Staged, Needs>, StoreError> {
        let ttl_ms = self.shared.options.idempotency_ttl_ms;
        let memory = self.shared.memory();
        let limits = self.shared.limits();
        let limits = Limits {
            pending: share_of(limits.pending, memory.shards.len()),
            ..limits
        };
        decide(&memory, limits, ttl_ms, batch, fetched, moving)
    }

    async fn try_apply(&mut self, ops: &[Op], now: Now, random: u128) -> Result<(), StoreError> {
        let ttl_ms = self.shared.options.idempotency_ttl_ms;
        let last_event = self.shared.memory().numbers.last_event;
        let days = days_of_keys(now.paced, ttl_ms, now.at.max(last_event.accepted_at()));
        let mut fetched = Fetched::default();
        let mut needs = self.needs_of(ops, &mut fetched);
        fetched.next_slot = self.slots_for(ops).await?;
        for _ in 0..ROUNDS {
            if !needs.is_empty() {
                fetch(&self.link, needs, days.clone(), &mut fetched).await?;
            }
            match self.decide((ops, now, random), &fetched, &Moving::default())? {
                Ok(staged) => return self.write(staged, false).await,
                Err(missing) => needs = missing,
            }
        }
        let what = "a batch asked for rows again and again";
        Err(StoreError::Database(what.to_owned()))
    }

    /// Returns the first of as many numbers as the batch may create endpoints. Those that it doesn't use are lost.
    async fn slots_for(&self, ops: &[Op]) -> Result<u32, StoreError> {
        let creates = |op: &&Op| matches!(op.bare(), Op::CreateEndpoint(_));
        let count = i32::try_from(ops.iter().filter(creates).count()).unwrap_or(i32::MAX);
        if count == 0 {
            return Ok(0);
        }
        let sql = "UPDATE @.meta SET next_slot = next_slot + $1 RETURNING next_slot - $1";
        let statement = self.link.prepare(sql, &[Type::INT4]).await?;
        let row = self.link.client.query_one(&statement, &[&count]).await;
        let first: i32 = column(&row.map_err(|e| failed(&e))?, 0)?;
        Ok(u32::try_from(first).unwrap_or(0))
    }

    /// Takes from memory what the batch will ask for first, and returns what of it is not there.
    fn needs_of(&self, ops: &[Op], fetched: &mut Fetched) -> Needs {
        let mut needs = Needs::default();
        let memory = self.shared.memory();
        for op in ops {
            match op {
                Op::Accept(new) => needs.keys.extend(
                    new.idempotency_key
                        .as_deref()
                        .map(|key| Fingerprint::of(&new.organization, key)),
                ),
                Op::AcceptEmitted(emitted) => {
                    for EmittedEvent { id, event } in &emitted.events {
                        needs.events.insert(*id);
                        needs.keys.insert(Fingerprint::of_emitted(*id));
                        let key = event.idempotency_key.as_deref();
                        let key = key.map(|key| Fingerprint::of(&event.organization, key));
                        needs.keys.extend(key);
                    }
                }
                Op::Settle(settle) if memory.fresh.contains_key(&settle.delivery) => {}
                Op::Settle(settle) => match self.known.get(&settle.delivery) {
                    Some(known) => {
                        let known = Some(known.clone());
                        fetched.deliveries.insert(settle.delivery, known);
                    }
                    None => {
                        needs.deliveries.insert(settle.delivery);
                    }
                },
                Op::AdvancePurge(advance) => {
                    let of = advance.events.iter();
                    let of = of.flat_map(|(event, slots)| slots.iter().map(|slot| (*event, *slot)));
                    let ids = of.map(|(event, slot)| DeliveryId { event, slot });
                    needs.deliveries.extend(ids);
                }
                Op::AdvanceBulk(advance) => {
                    let of = advance.events.iter().chain(&advance.missed);
                    let id = |event: &EventId| DeliveryId {
                        event: *event,
                        slot: advance.slot,
                    };
                    needs.deliveries.extend(of.map(id));
                    needs.events.extend(&advance.missed);
                }
                _ => {}
            }
        }
        needs
    }

    async fn write(&mut self, staged: Staged, is_move: bool) -> Result<(), StoreError> {
        self.days.ensure_of(&self.link, staged.ids()).await?;
        let lane = (self.shared.lane, self.incarnation);
        let staged = Box::new(staged);
        let tried = self.in_doubt.insert(InDoubt { staged, is_move });
        commit(&self.link, lane, &tried.staged).await
    }

    /// Connects again after a failure and finds out whether the last commit happened. `Some`: it did, with this
    /// result. `None`: nothing of it was stored.
    ///
    /// # Errors
    /// The database can't be reached yet, or another process has taken the lane over.
    pub async fn resolve_in_doubt(&mut self) -> Result<Option<Applied>, StoreError> {
        let link = Link::open(&self.shared.options).await?;
        // Waits for a commit that is still under way, and keeps one that comes later from succeeding.
        let sql = link.sql(
            "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = $2 AND incarnation = $1 \
             RETURNING commit_no, incarnation",
        );
        let lane = self.shared.lane;
        let found = link
            .client
            .query_opt(&sql, &[&self.incarnation, &lane])
            .await;
        let Some(row) = found.map_err(|e| failed(&e))? else {
            return Err(StoreError::TakenOver);
        };
        let commit = number(column(&row, 0)?);
        self.incarnation = column(&row, 1)?;
        if commit < self.shared.memory().commit {
            self.write_again(&link, commit).await?;
        }
        self.link = link;
        self.broken = false;
        let tried = self.in_doubt.as_ref().map(|tried| tried.staged.commit);
        if tried != Some(commit) {
            self.in_doubt = None;
        }
        if self.in_doubt.as_ref().is_some_and(|tried| tried.is_move) {
            // The operations come with a commit of their own.
            if let Some(applied) = self.merge_in_doubt() {
                self.moved.extend(applied.changes);
            }
            self.to_give.clear();
            return Ok(None);
        }
        Ok(self.merged())
    }

    /// Announces the last staged commit, if there is one, after the moves before it.
    fn merged(&mut self) -> Option<Applied> {
        let mut applied = self.merge_in_doubt()?;
        if !self.moved.is_empty() {
            let mut changes = std::mem::take(&mut self.moved);
            changes.append(&mut applied.changes);
            applied.changes = changes;
        }
        Some(applied)
    }

    fn merge_in_doubt(&mut self) -> Option<Applied> {
        let InDoubt { mut staged, .. } = self.in_doubt.take()?;
        let commit = staged.commit;
        for Placed { to, delivery, .. } in &staged.deliveries {
            if *to != Place::Open {
                self.known.remove(&delivery.id);
            } else if self.known.len() < KNOWN || self.known.contains_key(&delivery.id) {
                self.known.insert(delivery.id, delivery.clone());
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut memory = shared.memory_mut();
        if !staged.given.is_empty() {
            let slots: BTreeSet<Slot> = memory.slots_of(&staged.given).into_iter().collect();
            self.known.retain(|id, _| !slots.contains(&id.slot));
        }
        {
            let mut recent = shared.recent();
            for (event, _) in &staged.events {
                recent.add(event);
            }
            for id in staged.purged.events.keys() {
                recent.remove(*id);
            }
        }
        let (done, changes) = staged.merge(&mut memory);
        drop(memory);
        self.ring.push(staged);
        Some(Applied {
            commit,
            done,
            changes,
        })
    }
}

/// The part of a limit that falls to this many shards.
fn share_of(limit: u64, shards: usize) -> u64 {
    let all = u128::try_from(crate::cluster::SHARDS).unwrap_or(1);
    let held = u128::try_from(shards).unwrap_or(0);
    u64::try_from(u128::from(limit) * held / all).unwrap_or(u64::MAX)
}

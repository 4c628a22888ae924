//! The lane: makes one durable commit for each batch.

use crate::convert::{column, number};
use crate::fetch::{fetch, read_row};
use crate::link::{Link, failed};
use crate::load::{each, load};
use crate::memory::Shared;
use crate::options::Options;
use crate::partitions::{Days, day_of};
use crate::read::Reader;
use crate::rows::{Fetched, Needs};
use crate::schema;
use crate::staged::{Staged, decide};
use crate::write::{commit, taken_over};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stormhook_store::backend::{Fingerprint, Limits, as_read};
use stormhook_store::{
    Applied, Delivery, DeliveryId, EventId, Now, Op, QueueEntry, StoreError, UnixMs,
};

/// How many open deliveries are kept in memory, so that their first outcome needs no question.
const FRESH: usize = 65_536;
/// A batch asks for rows that the rows before name: a key, then its event, then its delivery.
const ROUNDS: usize = 8;

/// The one writer of the database.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    options: Options,
    link: Arc<Link>,
    incarnation: i64,
    days: Days,
    fresh: HashMap<DeliveryId, Delivery>,
    /// A failed commit that may have happened.
    in_doubt: Option<Box<Staged>>,
    /// Whether the connection broke, so that the lane has to be looked at again.
    broken: bool,
}

impl Store {
    /// Opens the store in a database that has the schema, and takes its lane over: no commit of an earlier process
    /// succeeds any more.
    ///
    /// # Errors
    /// The database can't be reached or refuses, or its schema has another version.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let link = Link::open(&options).await?;
        match schema::version(&link).await? {
            Some(found) => schema::expect(found)?,
            None => {
                let what = "the database has no tables of stormhook: run `stormhook migrate`";
                return Err(StoreError::Database(what.to_owned()));
            }
        }
        let (memory, incarnation) = load(&link).await?;
        let days = Days::load(&link, &options.schema).await?;
        let questions = Link::open(&options).await?;
        Ok(Self {
            shared: Shared::new(options.clone(), memory, questions),
            options,
            link,
            incarnation,
            days,
            fresh: HashMap::new(),
            in_doubt: None,
            broken: false,
        })
    }

    /// Returns a reader beside this writer.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Passes every open delivery to `each`, in order of due time. Those that a bulk change has ended or reopened are
    /// not among them.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn open_deliveries(
        &self,
        mut pass: impl FnMut(QueueEntry),
    ) -> Result<(), StoreError> {
        let bulks = Arc::clone(&self.shared.memory().directory.bulks);
        let sql = "SELECT event, slot, record FROM @.open ORDER BY due_ms, event, slot";
        each(&self.link, sql, &[], |row| {
            let stored = read_row(row, 0)?;
            let due = stored.due;
            let delivery = as_read(stored, &bulks);
            if let Some(entry) = delivery
                .queue_entry()
                .filter(|entry| Some(entry.due) == due)
            {
                pass(entry);
            }
            Ok(())
        })
        .await
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
        let tried = self.try_apply(ops.as_ref(), now.into(), random).await;
        let Err(error) = tried else {
            return self.merged().ok_or_else(|| {
                StoreError::InDoubt("the commit was made, but nothing was staged for it".to_owned())
            });
        };
        if !self.link.client.is_closed() {
            // The database answered: it rolled the transaction back.
            self.in_doubt = None;
            return Err(StoreError::NotCommitted(Box::new(error)));
        }
        self.broken = true;
        match self.resolve_in_doubt().await {
            Ok(Some(applied)) => Ok(applied),
            Ok(None) => Err(StoreError::NotCommitted(Box::new(error))),
            Err(_) => Err(StoreError::InDoubt(error.to_string())),
        }
    }

    async fn try_apply(&mut self, ops: &[Op], now: Now, random: u128) -> Result<(), StoreError> {
        let options = self.shared.options();
        let limits = Limits {
            pending: options.pending_limit,
            endpoints_per_organization: options.endpoints_per_organization,
        };
        let ttl_ms = options.idempotency_ttl_ms;
        let keys_from = UnixMs(now.paced.0.saturating_sub(ttl_ms));
        let mut fetched = Fetched::default();
        let mut needs = self.needs_of(ops, &mut fetched);
        for _ in 0..ROUNDS {
            if !needs.is_empty() {
                fetch(&self.link, needs, keys_from, &mut fetched).await?;
            }
            let batch = (ops, now, random);
            let decided = decide(&self.shared.memory(), limits, ttl_ms, batch, &fetched)?;
            match decided {
                Ok(staged) => return self.write(staged).await,
                Err(missing) => needs = missing,
            }
        }
        let what = "a batch asked for rows again and again";
        Err(StoreError::Database(what.to_owned()))
    }

    /// Takes from memory what the batch will ask for first, and returns what of it is not there.
    fn needs_of(&self, ops: &[Op], fetched: &mut Fetched) -> Needs {
        let mut needs = Needs::default();
        for op in ops {
            match op {
                Op::Accept(new) => needs.keys.extend(
                    new.idempotency_key
                        .as_deref()
                        .map(|key| Fingerprint::of(&new.organization, key)),
                ),
                Op::Settle(settle) => match self.fresh.get(&settle.delivery) {
                    Some(known) => {
                        let known = Some(known.clone());
                        fetched.deliveries.insert(settle.delivery, known);
                    }
                    None => {
                        needs.deliveries.insert(settle.delivery);
                    }
                },
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

    async fn write(&mut self, staged: Staged) -> Result<(), StoreError> {
        let days = staged.events.iter().map(|(event, _)| event.id);
        let days = days.chain(staged.keys.iter().map(|(_, id)| *id));
        let days: BTreeSet<u64> = days.map(|id| day_of(id.accepted_at())).collect();
        for day in days {
            self.days.ensure(&self.link, day).await?;
        }
        let staged = self.in_doubt.insert(Box::new(staged));
        commit(&self.link, self.incarnation, staged).await
    }

    /// Connects again after a failure and finds out whether the last commit happened. `Some`: it did, with this
    /// result. `None`: nothing of it was stored.
    ///
    /// # Errors
    /// The database can't be reached yet, or another process has taken the lane over.
    pub async fn resolve_in_doubt(&mut self) -> Result<Option<Applied>, StoreError> {
        let link = Link::open(&self.options).await?;
        // Waits for a commit that is still under way, and keeps one that comes later from succeeding.
        let sql = link.sql(
            "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = 0 AND incarnation = $1 \
             RETURNING commit_no, incarnation",
        );
        let found = link.client.query_opt(&sql, &[&self.incarnation]).await;
        let Some(row) = found.map_err(|e| failed(&e))? else {
            return Err(taken_over());
        };
        let commit = number(column(&row, 0)?);
        self.incarnation = column(&row, 1)?;
        self.link = link;
        self.broken = false;
        if self.in_doubt.as_ref().map(|staged| staged.commit) != Some(commit) {
            self.in_doubt = None;
        }
        Ok(self.merged())
    }

    /// Announces the last staged commit, if there is one.
    fn merged(&mut self) -> Option<Applied> {
        let staged = self.in_doubt.take()?;
        let commit = staged.commit;
        for (_, _, delivery) in &staged.deliveries {
            if delivery.due.is_none() {
                self.fresh.remove(&delivery.id);
            } else if self.fresh.len() < FRESH || self.fresh.contains_key(&delivery.id) {
                self.fresh.insert(delivery.id, delivery.clone());
            }
        }
        let (done, changes) = staged.merge(&mut self.shared.memory_mut());
        Some(Applied {
            commit,
            done,
            changes,
        })
    }
}

//! The database in memory: it speaks PostgreSQL's protocol with the daemons' own driver, and answers the statements of
//! `store/postgres` from rows in memory, by its own clock.
//!
//! Transactions see what is committed and what they have done themselves, and lock seats, lanes and shards until they end,
//! as with READ COMMITTED. A statement that waits for a lock longer than its timeout fails.

mod parts;
mod protocol;
mod session;
mod statements;
pub(crate) mod tables;

use super::wire::Line;
use protocol::Message;
use session::{Session, Transaction};
use statements::{Key, Refused};
use std::collections::BTreeMap;
use stormhook_testkit::random::Random;
use tables::Tables;

/// 2026-01-02T03:04:05Z, the database's time when a run begins.
pub(crate) const START_MS: u64 = 1_767_323_045_000;

/// Sees what is committed.
pub(crate) trait Watch {
    fn changed(&mut self, life: u64, before: &Tables, after: &Tables);
}

/// See the module.
pub(crate) struct Database {
    pub(crate) tables: Tables,
    /// Grows with each change of the tables.
    version: u64,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
    locks: BTreeMap<Key, u64>,
    now_ms: u64,
    down_until_ms: u64,
    /// How many transactions ended because their daemons stood still.
    pub(crate) idle_ended: u64,
    /// The longest that bytes take, each way.
    pub(crate) slow_ms: u64,
    random: Random,
}

impl Database {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            tables: Tables::new(),
            version: 0,
            sessions: BTreeMap::new(),
            next_session: 0,
            locks: BTreeMap::new(),
            now_ms: 0,
            down_until_ms: 0,
            idle_ended: 0,
            slow_ms: 0,
            random,
        }
    }

    /// A daemon opens a connection.
    pub(crate) fn accept(&mut self, line: Line, life: u64) {
        if self.now_ms < self.down_until_ms {
            return line.cut();
        }
        let session = Session::new(line, life, self.now_ms);
        self.sessions.insert(self.next_session, session);
        self.next_session += 1;
    }

    /// Ends, with all connections and what was not committed, and is back at this time.
    pub(crate) fn restart(&mut self, back_ms: u64) {
        for (_, mut session) in std::mem::take(&mut self.sessions) {
            session.cut(None);
        }
        self.locks.clear();
        self.down_until_ms = back_ms;
    }

    /// Cuts connections of this life: all, or one. Returns how many.
    pub(crate) fn cut(&mut self, life: u64, all: bool) -> usize {
        let of_life = self.sessions.iter();
        let of_life = of_life.filter(|(_, s)| s.life == life && !s.is_ghost);
        let mut cut: Vec<u64> = of_life.map(|(id, _)| *id).collect();
        if !all && cut.len() > 1 {
            let one = self.random.below(cut.len() as u64);
            cut = vec![cut[usize::try_from(one).unwrap()]];
        }
        for id in &cut {
            let late_ms = match self.random.below(4) {
                0 => None,
                1 => Some(self.random.below(6_000)),
                _ => Some(0),
            };
            let session = self.sessions.get_mut(id).expect("a session");
            session.receive(self.now_ms, 0);
            session.cut(late_ms);
        }
        cut.len()
    }

    /// Moves bytes and runs statements at this time. Nothing of a life for which `reaches` is false arrives or leaves.
    pub(crate) fn tick(
        &mut self,
        now_ms: u64,
        reaches: impl Fn(u64) -> bool,
        watch: &mut dyn Watch,
    ) {
        self.now_ms = now_ms;
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in &ids {
            let after_ms = self.takes_ms();
            let session = self.sessions.get_mut(id).expect("a session");
            if session.is_ghost || reaches(session.life) {
                session.receive(now_ms, after_ms);
            }
        }
        // Locks that one frees may be what another waits for.
        while ids.iter().filter(|id| self.run(**id, watch)).count() > 0 {}
        for id in &ids {
            let after_ms = self.takes_ms();
            let session = self.sessions.get_mut(id).expect("a session");
            if session.is_ghost || reaches(session.life) {
                session.send(now_ms, after_ms);
            }
            if session.is_over {
                self.sessions.remove(id);
                self.unlock(*id);
            }
        }
    }

    fn takes_ms(&mut self) -> u64 {
        self.random.below(self.slow_ms + 1)
    }

    fn unlock(&mut self, id: u64) {
        self.locks.retain(|_, holder| *holder != id);
    }

    /// Handles the messages of a session. Returns whether there were any.
    fn run(&mut self, id: u64, watch: &mut dyn Watch) -> bool {
        let mut any = false;
        loop {
            let session = self.sessions.get_mut(&id).expect("a session");
            let since_ms = session.waits.as_ref().map(|(_, since_ms)| *since_ms);
            let Some(message) = session.next() else {
                let idle_ms = self.now_ms - session.active_ms;
                let is_open = session.transaction.is_some() && !session.is_over;
                if is_open && idle_ms > session.idle_timeout_ms {
                    session.cut(None);
                    self.idle_ended += 1;
                    self.unlock(id);
                }
                return any;
            };
            session.active_ms = self.now_ms;
            if let Some(message) = session.handle(message)
                && let Some(waits) = self.execute(id, message, since_ms, watch)
            {
                let since_ms = since_ms.unwrap_or(self.now_ms);
                let session = self.sessions.get_mut(&id).expect("a session");
                session.waits = Some((waits, since_ms));
                return any;
            }
            any = true;
        }
    }

    /// Runs a statement. Returns its message if it has to wait for a lock.
    fn execute(
        &mut self,
        id: u64,
        message: Message,
        since_ms: Option<u64>,
        watch: &mut dyn Watch,
    ) -> Option<Message> {
        if let Message::Query(sql) = &message {
            if sql.contains("ATTACH PARTITION") && self.is_locked(&[Key::Meta], id) {
                return Some(message);
            }
            let sql = sql.clone();
            self.query(id, &sql, watch);
            return None;
        }
        let now_ms = exact(self.now_ms);
        let (version, is_locked) = (self.version, |keys: &[Key]| self.is_locked(keys, id));
        let session = self.sessions.get(&id).expect("a session");
        let (statement, values) = session.bound.clone().expect("bound");
        let timeout_ms = session.statement_timeout_ms;
        if session.transaction.as_ref().is_some_and(|t| t.has_failed) {
            let session = self.sessions.get_mut(&id).expect("a session");
            session.refuse(&Refused::new("25P02", "the transaction is aborted"));
            return None;
        }
        let arguments = statement.arguments(&values, now_ms);
        let keys = (statement.locks)(&self.tables, &arguments);
        if is_locked(&keys) {
            if since_ms.is_none_or(|since| self.now_ms - since < timeout_ms) {
                return Some(message);
            }
            let session = self.sessions.get_mut(&id).expect("a session");
            session.refuse(&Refused::new("57014", "statement timeout"));
            return None;
        }
        let session = self.sessions.get_mut(&id).expect("a session");
        let answer = if let Some(transaction) = &mut session.transaction {
            let sees = transaction.sees(&self.tables, version, now_ms);
            let answer = sees.and_then(|sees| statement.answer(sees, &values, now_ms));
            if answer.is_ok() {
                transaction.did(statement, values);
                transaction.locked.extend(&keys);
                self.locks.extend(keys.into_iter().map(|key| (key, id)));
            }
            answer
        } else {
            let before = (!keys.is_empty()).then(|| self.tables.clone());
            let answer = statement.answer(&mut self.tables, &values, now_ms);
            self.version += 1;
            if let Some(before) = before {
                watch.changed(session.life, &before, &self.tables);
            }
            answer
        };
        match answer {
            Ok(rows) => session.rows(rows),
            Err(refused) => session.refuse(&refused),
        }
        None
    }

    fn is_locked(&self, keys: &[Key], by_other_than: u64) -> bool {
        let holder = |key| self.locks.get(key).is_some_and(|id| *id != by_other_than);
        keys.iter().any(holder)
    }

    /// Runs a statement without parameters.
    fn query(&mut self, id: u64, sql: &str, watch: &mut dyn Watch) {
        let session = self.sessions.get_mut(&id).expect("a session");
        let mut tag = sql;
        match sql {
            "BEGIN" => session.transaction = Some(Transaction::default()),
            "COMMIT" => {
                let transaction = session.transaction.take();
                match transaction.filter(|transaction| !transaction.has_failed) {
                    Some(mut transaction) => {
                        match transaction.sees(&self.tables, self.version, exact(self.now_ms)) {
                            Ok(sees) => {
                                let before =
                                    std::mem::replace(&mut self.tables, std::mem::take(sees));
                                self.version += 1;
                                watch.changed(session.life, &before, &self.tables);
                            }
                            Err(refused) => session.refuse(&refused),
                        }
                    }
                    None => tag = "ROLLBACK",
                }
                self.unlock(id);
            }
            "ROLLBACK" => {
                session.transaction = None;
                self.unlock(id);
            }
            partitions => {
                let day = day_of(partitions);
                let day = day.unwrap_or_else(|| panic!("the model doesn't know: {sql}"));
                self.version += 1;
                if self.tables.days.insert(day) {
                    tag = "COMMIT";
                } else {
                    session.transaction = Some(Transaction::default());
                    session.refuse(&Refused::new("42809", "it is a partition already"));
                }
            }
        }
        let session = self.sessions.get_mut(&id).expect("a session");
        session.complete(tag);
    }
}

/// Returns the day whose partitions are made.
fn day_of(sql: &str) -> Option<u64> {
    let (_, rest) = sql.split_once("ATTACH PARTITION model.events_")?;
    rest.split_once(' ')?.0.parse().ok()
}

#[allow(clippy::cast_precision_loss, reason = "runs are short")]
fn exact(ms: u64) -> f64 {
    ms as f64
}

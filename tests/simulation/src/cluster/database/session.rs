//! One connection as the server has it: what arrives and leaves, prepared statements, and a transaction.

use super::protocol::{self, Message};
use super::statements::{Key, Refused, Row, Statement, find};
use super::tables::Tables;
use crate::cluster::wire::Line;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The values of a statement that is run.
pub(super) type Values = Vec<Option<Vec<u8>>>;

/// A transaction in progress.
#[derive(Default)]
pub(super) struct Transaction {
    /// What it has done, to be done again on what others have committed since.
    done: Vec<(&'static Statement, Values)>,
    pub(super) locked: BTreeSet<Key>,
    /// The tables as it sees them, and which version of the committed ones they are based on.
    sees: Tables,
    based_on: Option<u64>,
    pub(super) has_failed: bool,
}

impl Transaction {
    /// Returns the tables as it sees them: what is committed, and what it has done. An error if it conflicts with what
    /// others have committed since, in rows that it has not locked.
    pub(super) fn sees(
        &mut self,
        committed: &Tables,
        version: u64,
        now_ms: f64,
    ) -> Result<&mut Tables, Refused> {
        if self.based_on != Some(version) {
            self.sees = committed.clone();
            self.based_on = Some(version);
            for (statement, values) in &self.done {
                statement.answer(&mut self.sees, values, now_ms)?;
            }
        }
        Ok(&mut self.sees)
    }

    pub(super) fn did(&mut self, statement: &'static Statement, values: Values) {
        self.done.push((statement, values));
    }
}

/// See the module.
pub(super) struct Session {
    line: Line,
    /// The life of the daemon that opened it.
    pub(super) life: u64,
    is_first: bool,
    arriving: VecDeque<(u64, Vec<u8>)>,
    input: Vec<u8>,
    /// The message that waits for a lock, and since when.
    pub(super) waits: Option<(Message, u64)>,
    pub(super) leaving: VecDeque<(u64, Vec<u8>)>,
    pub(super) output: Vec<u8>,
    prepared: HashMap<String, &'static Statement>,
    pub(super) bound: Option<(&'static Statement, Values)>,
    pub(super) transaction: Option<Transaction>,
    /// After an error, up to the next `Sync`.
    skips: bool,
    /// When the last message was handled.
    pub(super) active_ms: u64,
    pub(super) statement_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    /// The connection is cut; what was sent may still arrive.
    pub(super) is_ghost: bool,
    pub(super) is_over: bool,
}

impl Session {
    pub(super) fn new(line: Line, life: u64, now_ms: u64) -> Self {
        Self {
            line,
            life,
            is_first: true,
            arriving: VecDeque::new(),
            input: Vec::new(),
            waits: None,
            leaving: VecDeque::new(),
            output: Vec::new(),
            prepared: HashMap::new(),
            bound: None,
            transaction: None,
            skips: false,
            active_ms: now_ms,
            statement_timeout_ms: u64::MAX,
            idle_timeout_ms: u64::MAX,
            is_ghost: false,
            is_over: false,
        }
    }

    /// Takes what the daemon has sent; it arrives `after_ms` later.
    pub(super) fn receive(&mut self, now_ms: u64, after_ms: u64) {
        let sent = self.line.take();
        if !sent.is_empty() {
            let earlier = self.arriving.back().map_or(0, |(due, _)| *due);
            self.arriving
                .push_back((earlier.max(now_ms + after_ms), sent));
        }
        while let Some((_, bytes)) = self.arriving.pop_front_if(|(due, _)| *due <= now_ms) {
            self.input.extend(bytes);
        }
    }

    /// Sends what was answered; it arrives `after_ms` later.
    pub(super) fn send(&mut self, now_ms: u64, after_ms: u64) {
        let output = std::mem::take(&mut self.output);
        if !output.is_empty() && !self.is_ghost {
            let earlier = self.leaving.back().map_or(0, |(due, _)| *due);
            self.leaving
                .push_back((earlier.max(now_ms + after_ms), output));
        }
        while let Some((_, bytes)) = self.leaving.pop_front_if(|(due, _)| *due <= now_ms) {
            self.line.deliver(&bytes);
        }
        let nothing_comes = self.arriving.is_empty() && self.waits.is_none();
        if (self.line.is_gone() || self.is_ghost) && nothing_comes {
            self.is_over = true;
        }
    }

    /// Cuts the connection. What was sent arrives `late_ms` later, if at all.
    pub(super) fn cut(&mut self, late_ms: Option<u64>) {
        self.line.cut();
        self.is_ghost = true;
        self.leaving.clear();
        match late_ms {
            Some(late_ms) => {
                for (due, _) in &mut self.arriving {
                    *due += late_ms;
                }
            }
            None => self.is_over = true,
        }
    }

    /// Returns the next message, unless one waits for a lock.
    pub(super) fn next(&mut self) -> Option<Message> {
        if let Some((message, _)) = self.waits.take() {
            return Some(message);
        }
        let message = protocol::take(&mut self.input, self.is_first)?;
        self.is_first = false;
        Some(message)
    }

    /// Handles a message that needs no tables. Returns any other.
    pub(super) fn handle(&mut self, message: Message) -> Option<Message> {
        if self.skips && !matches!(message, Message::Sync | Message::Terminate) {
            return None;
        }
        let out = &mut self.output;
        match message {
            Message::Startup(options) => {
                let value = |name: &str| {
                    let rest = options.split_once(&format!("{name}="))?.1;
                    rest.split_whitespace().next()?.parse().ok()
                };
                let or_never = |ms: Option<u64>| ms.filter(|ms| *ms > 0).unwrap_or(u64::MAX);
                self.statement_timeout_ms = or_never(value("statement_timeout"));
                self.idle_timeout_ms = or_never(value("idle_in_transaction_session_timeout"));
                protocol::put_welcome(out);
                protocol::put_ready(out, b'I');
            }
            Message::Parse { name, sql } => {
                let known = find(&sql);
                let known = known.unwrap_or_else(|| panic!("the model doesn't know: {sql}"));
                self.prepared.insert(name, known);
                protocol::put(out, b'1', &[]);
            }
            Message::Describe(name) => {
                let statement = self.prepared[&name];
                protocol::put_description(out, statement.takes, statement.gives);
            }
            Message::Bind { statement, values } => {
                self.bound = Some((self.prepared[&statement], values));
                protocol::put(out, b'2', &[]);
            }
            Message::Close(name) => {
                self.prepared.remove(&name);
                protocol::put(out, b'3', &[]);
            }
            Message::Sync => {
                self.skips = false;
                self.ready();
            }
            Message::Terminate => self.is_over = true,
            other @ (Message::Execute | Message::Query(_)) => return Some(other),
        }
        None
    }

    pub(super) fn ready(&mut self) {
        let state = match &self.transaction {
            None => b'I',
            Some(transaction) if transaction.has_failed => b'E',
            Some(_) => b'T',
        };
        protocol::put_ready(&mut self.output, state);
    }

    pub(super) fn rows(&mut self, (rows, count): (Vec<Row>, usize)) {
        for row in rows {
            protocol::put_row(&mut self.output, &row);
        }
        protocol::put_complete(&mut self.output, &format!("UPDATE {count}"));
    }

    /// A statement without parameters has ended, with an error if one was just reported.
    pub(super) fn complete(&mut self, tag: &str) {
        if !std::mem::take(&mut self.skips) {
            protocol::put_complete(&mut self.output, tag);
        }
        self.ready();
    }

    /// Refuses a statement, and all behind it up to the next `Sync`.
    pub(super) fn refuse(&mut self, refused: &Refused) {
        if let Some(transaction) = &mut self.transaction {
            transaction.has_failed = true;
        }
        self.skips = true;
        protocol::put_error(&mut self.output, refused.code, &refused.message);
    }
}

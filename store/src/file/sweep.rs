//! Finds rows that are past their retention. It writes nothing: a [`Sweeper`] reads a bounded part of the file at a
//! time, without blocking others, and returns what to drop. A batch then drops that, and looks at nothing else
//! (`file/batch/sweep.rs`).
//!
//! A pass looks at the events that crossed a horizon since the previous pass, where most of the work is. Older events
//! were kept because something held them or because the other horizon keeps them. Those are looked at again, a bounded
//! number of rows per pass; each pass continues where the previous one ended.

mod endpoints;
mod generations;
mod packs;
#[cfg(test)]
mod tests;

use crate::error::StoreError;
use crate::file::memory::{Shared, Snapshot};
use crate::file::reader::Reader;
use crate::file::tables;
use crate::ids::{AuditId, DeliveryId, EventId, Slot, UnixMs};
use crate::stats::{HOUR_MS, kept_windows};
use crate::swept::{Horizon, Sweep, Work};
use endpoints::Leaving;
use packs::Span;
use std::collections::BTreeMap;
use std::sync::Arc;

/// About how many rows one step looks at, and how many bytes of them.
const STEP_ROWS: usize = 1_000;
const STEP_BYTES: usize = 1 << 20;
/// How many rows of a second look one pass covers without finding anything.
const AGAIN_ROWS: usize = 20_000;
/// How far the progress in the file may lag behind the sweep while there is nothing to drop.
const BEHIND_MS: u64 = 24 * HOUR_MS;

/// The result of a step of a [`Sweeper`].
#[derive(Clone, Debug)]
pub enum Found {
    /// Submit this as long as the answer is that more is left, then continue.
    Work(Sweep),
    /// Nothing so far. Continue.
    Nothing,
    /// The pass has ended.
    End,
}

/// The parts of a pass, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Fresh,
    Again,
    Generations,
    Endpoints,
    Revisions,
    Audit,
    ApiKeys,
    Windows,
    Walked,
    End,
}

impl Part {
    fn next(self) -> Self {
        match self {
            Self::Fresh => Self::Again,
            Self::Again => Self::Generations,
            Self::Generations => Self::Endpoints,
            Self::Endpoints => Self::Revisions,
            Self::Revisions => Self::Audit,
            Self::Audit => Self::ApiKeys,
            Self::ApiKeys => Self::Windows,
            Self::Windows => Self::Walked,
            Self::Walked | Self::End => Self::End,
        }
    }
}

/// What one step looked at.
#[derive(Debug, Default)]
struct Looked {
    rows: usize,
    bytes: usize,
    work: Option<Work>,
    /// Whether the part ended with it.
    ended: bool,
}

impl Looked {
    fn is_full(&self) -> bool {
        self.rows >= STEP_ROWS || self.bytes >= STEP_BYTES
    }
}

/// Finds rows that are past their retention, step by step. Between passes it remembers what it need not look at again.
#[derive(Debug)]
pub struct Sweeper {
    shared: Arc<Shared>,
    horizon: Horizon,
    now: UnixMs,
    part: Part,
    /// Everything accepted before this was looked at when it crossed the horizon.
    walked: Horizon,
    /// The rest of the events of this part, in order.
    spans: Vec<Span>,
    again_after: EventId,
    /// Rows looked at in this part without finding anything.
    in_vain: usize,
    found: bool,
    /// For each generation, the first pair in it whose delivery may still exist.
    held: BTreeMap<u64, DeliveryId>,
    generation_after: Option<u64>,
    /// For each deleted endpoint, the first of its deliveries that may still exist.
    left: BTreeMap<Slot, DeliveryId>,
    leaving: Option<Leaving>,
    deleted_after: (UnixMs, Slot),
    revision_from: [u8; 20],
}

impl Reader {
    /// Returns a sweeper. One that is kept from pass to pass reads least.
    pub fn sweeper(&self) -> Sweeper {
        let meta = self.shared.memory().meta;
        Sweeper {
            shared: Arc::clone(&self.shared),
            horizon: Horizon::default(),
            now: UnixMs(0),
            part: Part::End,
            walked: Horizon {
                events_before: meta.swept_before,
                attempts_before: meta.deliveries_swept_before,
                ..Horizon::default()
            },
            spans: Vec::new(),
            again_after: meta.sweep_after,
            in_vain: 0,
            found: false,
            held: BTreeMap::new(),
            generation_after: None,
            left: BTreeMap::new(),
            leaving: None,
            deleted_after: (UnixMs(0), Slot(0)),
            revision_from: [0; 20],
        }
    }
}

impl Sweeper {
    /// Returns up to where everything was looked at.
    pub fn walked(&self) -> Horizon {
        self.walked
    }

    /// Starts a pass at the paced time `now`.
    pub fn begin(&mut self, horizon: Horizon, now: UnixMs) {
        self.horizon = horizon;
        self.now = now;
        self.found = false;
        self.spans = Span::fresh(self.walked, horizon);
        self.enter(Part::Fresh);
    }

    fn enter(&mut self, part: Part) {
        self.part = part;
        self.in_vain = 0;
        match part {
            Part::Again => self.spans = Span::again(self.again_after, self.horizon),
            Part::Generations => self.generation_after = None,
            Part::Endpoints => {
                self.leaving = None;
                self.deleted_after = (UnixMs(0), Slot(0));
            }
            _ => {}
        }
    }

    /// Looks at some more rows.
    ///
    /// # Errors
    /// The file can't be read. Calling again tries the same rows.
    pub fn step(&mut self) -> Result<Found, StoreError> {
        let shared = Arc::clone(&self.shared);
        let looked = match self.part {
            Part::Fresh | Part::Again => shared.view(|views| self.packs(views))?,
            Part::Generations => {
                let generations = shared.memory().generations.clone();
                shared.view(|views| self.generations(views, &generations))?
            }
            Part::Endpoints => self.endpoints()?,
            Part::Revisions => shared.view(|views| self.revisions(views))?,
            Part::Audit => shared.view(|views| self.audit(views))?,
            Part::ApiKeys => self.api_keys(),
            Part::Windows => shared.view(|views| self.windows(views))?,
            Part::Walked => self.tell_walked(),
            Part::End => return Ok(Found::End),
        };
        self.found |= looked.work.is_some();
        self.in_vain += if looked.work.is_some() {
            0
        } else {
            looked.rows
        };
        let again = matches!(self.part, Part::Again | Part::Revisions);
        if looked.ended || again && self.in_vain >= AGAIN_ROWS {
            if self.part == Part::Fresh {
                let (walked, to) = (&mut self.walked, self.horizon);
                walked.events_before = walked.events_before.max(to.events_before);
                walked.attempts_before = walked.attempts_before.max(to.attempts_before);
            }
            self.enter(self.part.next());
        }
        Ok(match looked.work {
            Some(work) => Found::Work(Sweep {
                horizon: self.horizon,
                again_after: self.again_after,
                work,
            }),
            None if self.part == Part::End => Found::End,
            None => Found::Nothing,
        })
    }

    /// Returns the next operation of this pass, after as many steps as needed.
    ///
    /// # Errors
    /// As [`Sweeper::step`].
    pub fn find(&mut self) -> Result<Option<Sweep>, StoreError> {
        loop {
            match self.step()? {
                Found::Work(sweep) => return Ok(Some(sweep)),
                Found::Nothing => {}
                Found::End => return Ok(None),
            }
        }
    }

    /// Returns the time before which everything is past both retentions.
    fn all_before(&self) -> UnixMs {
        self.horizon.events_before.min(self.horizon.attempts_before)
    }

    /// Finds the oldest entries of the audit log that are past their retention. The rest is found by the steps after it.
    fn audit(&self, views: &Snapshot) -> Result<Looked, StoreError> {
        let end = tables::audit_key(AuditId::first_of(self.horizon.audit_before));
        let rows = views.audit.range::<&[u8; 16]>(..&end)?;
        let past = rows
            .take(STEP_ROWS)
            .map(|row| row.map(|(key, _)| tables::audit_of(key.value())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Looked {
            rows: past.len(),
            ended: past.len() < STEP_ROWS,
            work: (!past.is_empty()).then_some(Work::Audit(past)),
            ..Looked::default()
        })
    }

    fn api_keys(&self) -> Looked {
        let memory = self.shared.memory();
        let before = self.horizon.audit_before;
        let past = memory.api_keys.ended_before(before, STEP_ROWS);
        Looked {
            rows: past.len(),
            ended: true,
            work: (!past.is_empty()).then_some(Work::ApiKeys(past)),
            ..Looked::default()
        }
    }

    fn windows(&self, views: &Snapshot) -> Result<Looked, StoreError> {
        let mut any = false;
        for (level, before) in kept_windows(self.now) {
            let (first, end) = (
                tables::window_key(level, UnixMs(0), Slot(0)),
                tables::window_key(level, before, Slot(0)),
            );
            any |= views
                .windows
                .range::<&[u8; 13]>(&first..&end)?
                .next()
                .is_some();
            let (first, end) = (
                tables::counters_key(level, UnixMs(0)),
                tables::counters_key(level, before),
            );
            any |= views
                .counters
                .range::<&[u8; 9]>(&first..&end)?
                .next()
                .is_some();
        }
        Ok(Looked {
            work: any.then_some(Work::Windows),
            ended: true,
            ..Looked::default()
        })
    }

    /// Progress is recorded in the file with what the sweep drops, or from time to time.
    fn tell_walked(&self) -> Looked {
        let meta = self.shared.memory().meta;
        let behind = (self.walked.events_before.since_ms(meta.swept_before)).max(
            self.walked
                .attempts_before
                .since_ms(meta.deliveries_swept_before),
        );
        let tell = behind > BEHIND_MS || self.found && behind > 0;
        Looked {
            work: tell.then_some(Work::Walked),
            ended: true,
            ..Looked::default()
        }
    }
}

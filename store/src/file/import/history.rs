//! The lists of each endpoint's deliveries, in order of sequence number, made of deliveries in order of their events.
//!
//! A list is cut into generations, as folding the journal does, so that each can be dropped once its events are past
//! retention. The deliveries are put in order by a table of the same file, which is removed at the end.

use crate::error::StoreError;
use crate::file::journal::{Bloom, Generation, Run};
use crate::file::record;
use crate::file::sums::Writing;
use crate::file::tables;
use crate::ids::{EventId, Slot};
use crate::options::Options;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

/// Slot and sequence number → event.
const ORDER: TableDefinition<'static, &'static [u8; 12], &'static [u8; 16]> =
    TableDefinition::new("import_order");
/// A longer gap between sequence numbers, left by deliveries that were swept, begins another generation.
const GAP: u64 = 1_024;

/// See the module.
pub(super) struct History<'t> {
    order: Table<'t, &'static [u8; 12], &'static [u8; 16]>,
    /// The last event of each generation.
    ends: Vec<EventId>,
    /// Deliveries in the last one.
    in_last: usize,
    /// How many a generation holds.
    most: usize,
}

/// A run of one endpoint that is being collected, and the number of its generation.
struct Collected {
    slot: Slot,
    generation: usize,
    run: Run,
}

impl<'t> History<'t> {
    pub(super) fn begin(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            order: txn.open_table(ORDER)?,
            ends: Vec::new(),
            in_last: 0,
            most: Options::new("").fold_items,
        })
    }

    /// Removes the table again.
    pub(super) fn end(txn: &WriteTransaction) -> Result<(), StoreError> {
        txn.delete_table(ORDER)?;
        Ok(())
    }

    /// Adds a delivery. They come in order of their events.
    pub(super) fn add(
        &mut self,
        slot: Slot,
        sequence: u64,
        event: EventId,
    ) -> Result<(), StoreError> {
        let key: [u8; 12] = tables::join(&[&slot.0.to_be_bytes(), &sequence.to_be_bytes()]);
        if self
            .order
            .insert(&key, &tables::event_key(event))?
            .is_some()
        {
            let detail = format!("two have the sequence number {sequence}");
            let what = format!("the list of deliveries of endpoint number {}", slot.0);
            return Err(StoreError::damaged(what, detail));
        }
        match self.ends.last_mut() {
            // All deliveries of an event have the same generation by time.
            Some(last) if self.in_last < self.most || *last == event => *last = event,
            _ => {
                self.ends.push(event);
                self.in_last = 0;
            }
        }
        self.in_last += 1;
        Ok(())
    }

    /// Writes the lists. Returns the generations, in order.
    pub(super) fn write(&self, rows: &mut Writing<'_, 12>) -> Result<Vec<Generation>, StoreError> {
        let mut counts = vec![0_u64; self.ends.len()];
        let mut collected: Option<Collected> = None;
        for row in self.order.iter()? {
            let (key, event) = row?;
            let (slot, sequence) = tables::bulk_of(key.value());
            let event = tables::event_of(event.value());
            let by_time = self.ends.partition_point(|end| *end < event);
            match collected.as_mut().filter(|c| c.slot == slot) {
                Some(c) if c.generation >= by_time && self.fits(&c.run, sequence) => {
                    let missing = sequence.saturating_sub(c.run.end());
                    let missing = usize::try_from(missing).unwrap_or(0);
                    // No event has this id: the list skips it, as it does a delivery that was swept.
                    c.run
                        .events
                        .extend(std::iter::repeat_n(EventId(0), missing));
                    c.run.events.push(event);
                }
                other => {
                    // Numbers go on from generation to generation.
                    let after = other.map_or(0, |c| c.generation + 1);
                    let next = Collected {
                        slot,
                        generation: by_time.max(after),
                        run: Run {
                            first_sequence: sequence,
                            events: vec![event],
                        },
                    };
                    if let Some(full) = collected.replace(next) {
                        put(rows, &mut counts, &full)?;
                    }
                }
            }
        }
        if let Some(last) = collected {
            put(rows, &mut counts, &last)?;
        }
        Ok(self.generations(&counts))
    }

    fn fits(&self, run: &Run, sequence: u64) -> bool {
        run.events.len() < self.most && sequence.saturating_sub(run.end()) <= GAP
    }

    fn generations(&self, counts: &[u64]) -> Vec<Generation> {
        let last = self.ends.last().copied().unwrap_or_default();
        let all = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        all.map(|(at, count)| Generation {
            number: u64::try_from(at).unwrap_or(u64::MAX),
            last_event: self.ends.get(at).copied().unwrap_or(last),
            deliveries: *count,
            keys: 0,
            bloom: Bloom::default(),
        })
        .collect()
    }
}

fn put(
    rows: &mut Writing<'_, 12>,
    counts: &mut Vec<u64>,
    Collected {
        slot,
        generation,
        run,
    }: &Collected,
) -> Result<(), StoreError> {
    if counts.len() <= *generation {
        counts.resize(generation + 1, 0);
    }
    if let Some(count) = counts.get_mut(*generation) {
        *count += u64::try_from(run.events.len()).unwrap_or(u64::MAX);
    }
    let number = u64::try_from(*generation).unwrap_or(u64::MAX);
    let key = tables::history_key(number, *slot);
    rows.insert(&key, &record::write("history", &key, run)?)
}

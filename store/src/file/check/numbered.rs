//! Checks what one table counts and numbers for the rows of another: the sequence numbers of each endpoint's
//! deliveries, as the journal and the generations list them, and what a generation says about its own rows.
//!
//! All of this is in one snapshot. Rows that can't be read are named when their table is checked, and not compared
//! here.

use super::Checking;
use crate::endpoint::EndpointState;
use crate::error::StoreError;
use crate::file::journal::{Generation, JournalRow, Run};
use crate::file::memory::Snapshot;
use crate::file::pack::{self, Pack};
use crate::file::record;
use crate::file::rows;
use crate::file::sums::Sum;
use crate::file::tables;
use crate::fingerprint::Fingerprint;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use redb::ReadableTable;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The deliveries of one endpoint.
#[derive(Default)]
struct Numbers {
    /// Ranges of sequence numbers that are listed, with exclusive ends.
    listed: Vec<(u64, u64)>,
    /// What is listed and not swept.
    expected: Sum,
    /// What was found of that.
    found: Sum,
    /// The number of all deliveries.
    count: u64,
    greatest: u64,
    /// Open deliveries that are in no list.
    unlisted: u64,
    /// The last assigned number, according to the states and the journal.
    last: u64,
    /// Whether some of it can't be read.
    unclear: bool,
    /// Whether some were removed with their events.
    removed: bool,
}

impl Numbers {
    fn is_listed(&self, sequence: u64) -> bool {
        let at = self.listed.partition_point(|(_, end)| *end <= sequence);
        self.listed
            .get(at)
            .is_some_and(|(first, _)| *first <= sequence)
    }

    fn list(&mut self, first: u64, count: usize) {
        let end = first.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        match self.listed.last_mut() {
            Some(last) if last.1 == first => last.1 = end,
            _ => self.listed.push((first, end)),
        }
    }

    /// Returns what is wrong with them.
    fn damage(&self, slot: Slot, complete: bool) -> Option<String> {
        let Self {
            count,
            greatest,
            unlisted,
            last,
            ..
        } = self;
        let number = slot.0;
        if *count > *last || *greatest > *last || (complete && !self.removed && *count != *last) {
            return Some(format!(
                "endpoint number {number} has {count} deliveries up to sequence {greatest}, but {last} were numbered"
            ));
        }
        if self.unclear {
            return None;
        }
        if *unlisted > 0 {
            return Some(format!(
                "endpoint number {number} has {unlisted} open deliveries that are in no list of its deliveries"
            ));
        }
        (self.expected != self.found).then(|| {
            let (expected, found) = (self.expected.rows, self.found.rows);
            format!(
                "endpoint number {number} has {found} listed deliveries, but not with the sequence numbers of the {expected} in its list"
            )
        })
    }
}

/// The rows that a generation should have, and those that it has.
#[derive(Default)]
struct Folded {
    deliveries: (u64, u64),
    keys: (u64, u64),
    is_there: bool,
    unclear: bool,
}

#[derive(Default)]
struct Looking {
    slots: HashMap<Slot, Numbers>,
    generations: BTreeMap<u64, Folded>,
    /// Up to when deliveries may be gone; 0 if nothing was swept.
    swept_before: UnixMs,
    /// Whether a row of the journal can't be read.
    journal_unclear: bool,
    /// The last pack that was searched for a removed event.
    pack: Option<(EventId, Arc<Pack>)>,
}

/// Adds one delivery to the sum of a list.
fn add(sum: &mut Sum, sequence: u64, event: EventId) {
    let key: [u8; 24] = tables::join(&[&event.0.to_be_bytes(), &sequence.to_be_bytes()]);
    sum.add(&key, &[]);
}

fn length<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

impl Looking {
    fn slot(&mut self, slot: Slot) -> &mut Numbers {
        self.slots.entry(slot).or_default()
    }

    fn generation(&mut self, number: u64) -> &mut Folded {
        self.generations.entry(number).or_default()
    }

    fn of(views: &Snapshot) -> Result<Self, StoreError> {
        let mut looking = Self {
            swept_before: views.meta()?.deliveries_swept_before,
            ..Self::default()
        };
        looking.generations(views)?;
        looking.history(views)?;
        // States first: the journal is newer.
        for row in views.states.iter()? {
            let (key, value) = row?;
            if let Ok(state) = record::read::<EndpointState>("states", key.value(), value.value()) {
                looking.slot(tables::slot_of(key.value())).last = state.last_sequence;
            }
        }
        looking.journal(views)?;
        for numbers in looking.slots.values_mut() {
            numbers.listed.sort_unstable();
        }
        looking.deliveries(views)?;
        Ok(looking)
    }

    fn generations(&mut self, views: &Snapshot) -> Result<(), StoreError> {
        for row in views.generations.iter()? {
            let (key, value) = row?;
            let found = self.generation(tables::count_of(key.value()));
            found.is_there = true;
            match record::read::<Generation>("generations", key.value(), value.value()) {
                Ok(generation) => {
                    found.deliveries.0 = generation.deliveries;
                    found.keys.0 = generation.keys;
                }
                Err(_) => found.unclear = true,
            }
        }
        for row in views.keys.iter()? {
            let (key, value) = row?;
            let of = self.generation(tables::generation_of_block(key.value()));
            type Block = Vec<(Fingerprint, EventId)>;
            match record::read::<Block>("keys", key.value(), value.value()) {
                Ok(block) => of.keys.1 += length(&block),
                Err(_) => of.unclear = true,
            }
        }
        Ok(())
    }

    fn history(&mut self, views: &Snapshot) -> Result<(), StoreError> {
        for row in views.history.iter()? {
            let (key, value) = row?;
            let (number, slot) = tables::history_of(key.value());
            let Ok(run) = record::read::<Run>("history", key.value(), value.value()) else {
                self.generation(number).unclear = true;
                self.slot(slot).unclear = true;
                continue;
            };
            self.generation(number).deliveries.1 += length(&run.events);
            self.slot(slot).list(run.first_sequence, run.events.len());
            for (sequence, event) in (run.first_sequence..).zip(run.events) {
                self.expect(views, slot, sequence, event)?;
            }
        }
        Ok(())
    }

    fn journal(&mut self, views: &Snapshot) -> Result<(), StoreError> {
        for row in views.journal.iter()? {
            let (key, value) = row?;
            let Ok(row) = record::read::<JournalRow>("journal", key.value(), value.value()) else {
                self.journal_unclear = true;
                continue;
            };
            for (slot, sequence, event) in row.created {
                self.slot(slot).list(sequence, 1);
                self.expect(views, slot, sequence, event)?;
            }
            for (slot, state) in row.states {
                self.slot(slot).last = state.last_sequence;
            }
        }
        Ok(())
    }

    /// Records that a delivery is listed, and should exist unless it was swept or its event was removed. One that was
    /// swept may have been created again since, with a later number.
    fn expect(
        &mut self,
        views: &Snapshot,
        slot: Slot,
        sequence: u64,
        event: EventId,
    ) -> Result<(), StoreError> {
        let key = tables::delivery_key(DeliveryId { event, slot });
        let is_there = || -> Result<bool, StoreError> {
            let row = views.deliveries.get(&key)?;
            Ok(row.is_some_and(|row| {
                rows::read_delivery(&key, row.value()).is_ok_and(|d| d.sequence == sequence)
            }))
        };
        let is_live = views
            .endpoint(slot)
            .is_some_and(|endpoint| endpoint.deleted_at.is_none());
        let is_kept = if event.accepted_at() < self.swept_before {
            is_there()?
        } else if is_live || is_there()? {
            true
        } else {
            let is_removed = self.is_removed(views, event)?;
            self.slot(slot).removed |= is_removed;
            !is_removed
        };
        if is_kept {
            add(&mut self.slot(slot).expected, sequence, event);
        }
        Ok(())
    }

    /// Whether an event was removed by a purge. Most are in the same pack as the one before.
    fn is_removed(&mut self, views: &Snapshot, event: EventId) -> Result<bool, StoreError> {
        let find = |pack: &Arc<Pack>| pack.find(event).is_some_and(|event| event.is_removed());
        if let Some((first, pack)) = &self.pack
            && *first <= event
            && event <= pack.last()
        {
            return Ok(find(pack));
        }
        self.pack = match pack::around(&views.packs, event) {
            Err(e) if e.is_damage() => None,
            around => around?,
        };
        Ok(self.pack.as_ref().is_some_and(|(_, pack)| find(pack)))
    }

    fn deliveries(&mut self, views: &Snapshot) -> Result<(), StoreError> {
        for row in views.deliveries.iter()? {
            let (key, value) = row?;
            let id = tables::delivery_of(key.value());
            let numbers = self.slot(id.slot);
            numbers.count += 1;
            let Ok(d) = rows::read_delivery(key.value(), value.value()) else {
                numbers.unclear = true;
                continue;
            };
            numbers.greatest = d.sequence.max(numbers.greatest);
            if numbers.is_listed(d.sequence) {
                add(&mut numbers.found, d.sequence, id.event);
            } else if d.status.is_open() {
                // Its generation may be gone only if it has ended.
                numbers.unlisted += 1;
            }
        }
        Ok(())
    }

    fn damage(&self) -> Vec<String> {
        let mut damage = Vec::new();
        for (number, of) in &self.generations {
            if !of.is_there {
                damage.push(format!(
                    "generation {number} has rows in history or keys, but doesn't exist"
                ));
            }
            let both = [("deliveries", of.deliveries), ("idempotency keys", of.keys)];
            for (what, (told, found)) in both {
                if of.is_there && !of.unclear && told != found {
                    damage.push(format!(
                        "generation {number} holds {found} {what}, but {told} were folded into it"
                    ));
                }
            }
        }
        let complete = self.swept_before.0 == 0;
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|(slot, _)| **slot);
        // If the journal can't be read, the last assigned number isn't known.
        if !self.journal_unclear {
            damage.extend(
                slots
                    .iter()
                    .filter_map(|(slot, n)| n.damage(**slot, complete)),
            );
        }
        damage
    }
}

pub(super) fn check(c: &mut Checking<'_>) -> Result<(), StoreError> {
    match c.shared.long_view(Looking::of) {
        Ok(looking) => looking.damage().into_iter().for_each(|what| c.damage(what)),
        // Named when the rows were checked.
        Err(e) if e.is_damage() => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

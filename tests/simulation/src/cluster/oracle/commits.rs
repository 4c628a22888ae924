//! Which commits there may be: of the daemon that holds the shard, with the next sequence numbers.

use super::Oracle;
use crate::cluster::database::Watch;
use crate::cluster::database::tables::Tables;
use std::collections::BTreeSet;
use stormhook_postgres::cluster::Shard;
use stormhook_store::backend::{read_endpoint, slot_key};
use stormhook_store::{Endpoint, EventId, Keys, Slot};

/// Reads the deliveries that an event names: slot and sequence number of each.
pub(super) fn targets(bytes: &[u8]) -> Vec<(Slot, u64)> {
    let read = |target: &[u8]| {
        let (slot, sequence) = target.split_at(4);
        let slot = u32::from_be_bytes(slot.try_into().unwrap());
        (Slot(slot), u64::from_be_bytes(sequence.try_into().unwrap()))
    };
    bytes.chunks_exact(12).map(read).collect()
}

pub(super) fn endpoint(tables: &Tables, slot: Slot) -> Option<Endpoint> {
    let row = tables.endpoints.get(&i32::try_from(slot.0).unwrap())?;
    let read = read_endpoint(&slot_key(slot), &row.record, &Keys::default());
    Some(read.expect("a readable endpoint").endpoint)
}

impl Watch for Oracle {
    fn changed(&mut self, life: u64, before: &Tables, after: &Tables) {
        self.seats(life, before, after);
        let events = after.events.since(&before.events).next().is_some();
        let touched = touched(before, after);
        if !events && touched.is_empty() {
            return;
        }
        self.tally.commits += 1;
        if let Err(why) = self.may_commit(life, before, after, touched) {
            self.violated(format!("a commit of {life}: {why}"));
        }
    }
}

impl Oracle {
    fn seats(&mut self, by: u64, before: &Tables, after: &Tables) {
        for (number, seat) in &after.seats {
            let was = before.seats.get(number);
            let taken = (*number, seat.incarnation);
            if was.is_none_or(|was| was.incarnation != seat.incarnation) {
                self.note(format!("{by} takes seat {taken:?}"));
                self.change(by, |life| life.seat = Some(taken));
            } else if seat.fenced && was.is_some_and(|was| !was.fenced) {
                let holder = self.lives.iter();
                let mut holder = holder.filter(|(_, life)| life.seat == Some(taken));
                let holder = holder.next().map(|(life, _)| *life).expect("a holder");
                self.leaves(holder, by);
                self.tally.fresh_taken_over += without_row(before, *number);
            }
        }
    }

    fn leaves(&mut self, holder: u64, by: u64) {
        if holder == by {
            self.note(format!("{by} leaves its seat"));
            return self.change(by, |life| life.has_left = true);
        }
        self.note(format!("{by} fences {holder}"));
        self.tally.fenced += 1;
        let alive = !self.life(holder).has_ended;
        self.tally.fenced_alive += u64::from(alive);
        self.change(holder, |life| life.is_fenced = true);
    }

    fn may_commit(
        &mut self,
        by: u64,
        before: &Tables,
        after: &Tables,
        touched: BTreeSet<i32>,
    ) -> Result<(), String> {
        let life = self.life(by);
        if life.is_fenced || life.has_left {
            return Err("others have taken over from it".to_owned());
        }
        let (seat, incarnation) = life.seat.ok_or("it has no seat")?;
        let now = after.seats.get(&seat).map(|seat| seat.incarnation);
        if now != Some(incarnation) {
            return Err(format!("its seat {seat} is another's"));
        }
        let owns = |shard: i16| before.shards[&shard].owner == Some(seat);
        for slot in touched {
            let shard = after.endpoints[&slot].shard;
            if !owns(shard) {
                return Err(format!("shard {shard} of endpoint {slot} is not its own"));
            }
        }
        self.note(format!("{by} commits"));
        let new = after.events.since(&before.events);
        for (id, event) in new.filter(|(id, _)| before.events.get(id).is_none()) {
            let shard = Shard::of(&event.organization);
            if !owns(i16::from(shard.0)) {
                return Err(format!("shard {} of an event is not its own", shard.0));
            }
            let of = targets(&event.targets);
            self.all_sent_to(&event.organization, of.len(), before, after)?;
            for (slot, sequence) in of {
                let last = self.last_sequence.entry(slot).or_default();
                if sequence != *last + 1 {
                    let id = EventId(id.as_u128());
                    return Err(format!(
                        "{id} has sequence {sequence} of endpoint {}, after {last}",
                        slot.0
                    ));
                }
                *last = sequence;
            }
        }
        Ok(())
    }

    /// An event has a delivery for each endpoint of its organization.
    fn all_sent_to(
        &self,
        organization: &str,
        count: usize,
        before: &Tables,
        after: &Tables,
    ) -> Result<(), String> {
        let endpoints = |tables: &Tables| {
            let of = tables.endpoints.values();
            of.filter(|e| e.organization == organization).count()
        };
        // Endpoints of the same commit may be older or younger.
        let (least, most) = (endpoints(before), endpoints(after));
        if (least..=most).contains(&count) {
            return Ok(());
        }
        Err(format!(
            "an event has {count} deliveries, but its organization {least} to {most} endpoints"
        ))
    }
}

/// Returns how many deliveries of the shards of a seat have no row yet.
fn without_row(tables: &Tables, seat: i16) -> u64 {
    let shard_of = |organization: &str| &tables.shards[&i16::from(Shard::of(organization).0)];
    let own = tables.events.iter();
    let own = own.filter(|(_, event)| shard_of(&event.organization).owner == Some(seat));
    let named = own.flat_map(|(id, event)| {
        let named = targets(&event.targets).into_iter();
        named.map(|(slot, sequence)| (i32::try_from(slot.0).unwrap(), sequence.cast_signed(), *id))
    });
    let without = named
        .filter(|key| tables.open.get(&(key.0, key.1)).is_none() && tables.done.get(key).is_none());
    without.count() as u64
}

/// Returns the endpoints whose deliveries a commit changed.
fn touched(before: &Tables, after: &Tables) -> BTreeSet<i32> {
    let mut touched = BTreeSet::new();
    for (one, other) in [(after, before), (before, after)] {
        let open = one.open.since(&other.open).filter(|(key, row)| {
            let there = other.open.get(key);
            there.is_none_or(|there| there.record != row.record)
        });
        touched.extend(open.map(|((slot, _), _)| *slot));
        let done = one.done.since(&other.done);
        let done = done.filter(|(key, _)| other.done.get(key).is_none());
        touched.extend(done.map(|((slot, _, _), _)| *slot));
    }
    touched
}

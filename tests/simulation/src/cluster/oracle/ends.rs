//! What must hold once all faults are over: everything acknowledged is there, and has ended as it should.

use super::commits::targets;
use super::requests::{Stored, stored};
use super::{Answer, Oracle};
use crate::cluster::database::tables::Tables;
use std::collections::BTreeMap;
use stormhook_store::{Delivery, DeliveryId, EventId, Status};
use uuid::Uuid;

/// Returns the number that the data of an event has.
fn number_of(data: Option<&Vec<u8>>) -> Option<u64> {
    let text = std::str::from_utf8(data?).ok()?;
    text.strip_prefix("{\"n\":")?
        .split(',')
        .next()?
        .parse()
        .ok()
}

impl Oracle {
    /// A daemon has ended by itself.
    pub(crate) fn ended(&mut self, life: u64, taken_over: bool) {
        self.note(format!("{life} has ended, taken over: {taken_over}"));
        self.change(life, |life| life.has_ended = true);
        let state = self.life(life);
        if taken_over && !state.is_fenced {
            self.violated(format!("{life} ended as if others had taken over"));
        }
    }

    /// Whether a daemon runs that others have taken over from.
    pub(crate) fn is_fenced(&self, life: u64) -> bool {
        self.life(life).is_fenced
    }

    /// Whether deliveries have not ended.
    pub(crate) fn has_open(&self, tables: &Tables) -> bool {
        tables.open.len() > 0
            || self.last_sequence.values().sum::<u64>() != tables.done.len() as u64
    }

    /// All faults are over, and all deliveries have had the time to end.
    pub(crate) fn finish(&mut self, tables: &Tables) {
        if let Err(why) = self.complete(tables) {
            self.violated(why);
        }
    }

    fn complete(&mut self, tables: &Tables) -> Result<(), String> {
        let mut stored_as: BTreeMap<u64, Vec<Uuid>> = BTreeMap::new();
        for (id, event) in tables.events.iter() {
            let number = number_of(event.data.as_ref()).ok_or("an event that nobody sent")?;
            stored_as.entry(number).or_default().push(*id);
            for (slot, sequence) in targets(&event.targets) {
                let id = DeliveryId {
                    event: EventId(id.as_u128()),
                    slot,
                };
                match stored(tables, id, sequence) {
                    Stored::Done(delivery) => self.ended_well(&delivery)?,
                    Stored::Open(_) => return Err(format!("{id} has not ended")),
                    Stored::Nowhere => return Err(format!("{id} is nowhere")),
                }
                self.tally.deliveries += 1;
            }
        }
        for (number, answer) in &self.answers {
            let of = stored_as.get(number).map_or(&[][..], Vec::as_slice);
            match answer {
                Answer::Stored(id) if of != [Uuid::from_u128(id.0)] => {
                    return Err(format!("event {number} was stored as {id}, and is {of:?}"));
                }
                Answer::NotStored if !of.is_empty() => {
                    return Err(format!("event {number} was refused, and is {of:?}"));
                }
                _ => {}
            }
        }
        match stored_as.iter().find(|(_, of)| of.len() > 1) {
            Some((number, of)) => Err(format!("event {number} is stored as {of:?}")),
            None => Ok(()),
        }
    }

    fn ended_well(&self, d: &Delivery) -> Result<(), String> {
        match d.status {
            Status::Success if !self.was_accepted(d.id) => Err(format!(
                "{} is delivered, but no receiver accepted it",
                d.id
            )),
            Status::Success => Ok(()),
            Status::Abandoned if d.attempts_finished == self.attempts_at_most => Ok(()),
            other => Err(format!(
                "{} ended as {other:?} after {} attempts",
                d.id, d.attempts_finished
            )),
        }
    }
}

//! Fresh deliveries: those that have no row yet.
//!
//! An event names its deliveries, each with its sequence number, and that is all there is to know of one until its first
//! attempt. So a delivery whose first attempt succeeds has one row, at its end. It gets a row before that
//!
//! - when its first attempt fails, or an operator changes it,
//! - when a bulk change of its endpoint begins: that walks over rows,
//! - when all states of endpoints are written and it still waits, every few seconds. So after `states_upto` of a shard
//!   there may be fresh ones, and up to it there are none,
//! - at once if there are many already, or if a daemon takes part whose version doesn't know of them.
//!
//! A delivery that its event names, without a row and within its retention, is therefore a fresh one, whoever looks.

use crate::memory::Memory;
use std::collections::{BTreeMap, BTreeSet};
use stormhook_store::{Delivery, DeliveryId, EventId, Slot, UnixMs};

/// How many there are at most: they are read when another daemon takes over, and written in one commit.
pub(crate) const MOST: usize = 10_000;
/// The first version of the schema whose daemons know of them.
pub(crate) const KNOWN_SINCE: i32 = 5;
/// The stamp of a fresh delivery for those who only read: no bulk change applies to it.
pub(crate) const AFTER_ALL: u64 = u64::MAX;

/// Where a delivery's row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// There is none: see the module.
    Nowhere,
    Open,
    Done,
}

impl Place {
    /// Returns where the row of a delivery belongs.
    pub(crate) fn of_row(delivery: &Delivery) -> Self {
        if delivery.due.is_some() {
            Self::Open
        } else {
            Self::Done
        }
    }
}

/// A delivery as a batch leaves it.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Where its row was, and under which sequence number.
    pub(crate) from: Place,
    pub(crate) sequence: u64,
    pub(crate) to: Place,
    pub(crate) delivery: Delivery,
}

/// What decides which of the deliveries of a batch stay without a row.
pub(crate) struct Rule<'a> {
    pub(crate) memory: &'a Memory,
    /// Up to this event all have one.
    pub(crate) states_upto: EventId,
    /// Endpoints of which a bulk change begins.
    pub(crate) bulk_begins: &'a BTreeSet<Slot>,
    /// Whether those from before get one now.
    pub(crate) opens_all: bool,
}

impl Rule<'_> {
    /// Returns the places that a delivery without a row goes to.
    fn place(&self, d: &Delivery, room: &mut usize) -> Place {
        if d.due.is_none() {
            return Place::Done;
        }
        let stays = *room > 0
            && self.memory.all_know_fresh
            && d.id.event > self.states_upto
            && !self.bulk_begins.contains(&d.id.slot)
            && *d == Delivery::accepted(d.id, d.sequence, d.stamp);
        if !stays {
            return Place::Open;
        }
        *room -= 1;
        Place::Nowhere
    }

    /// Places the deliveries of a batch, and those from before that get a row with it. `row` returns the delivery whose
    /// row there is, if memory has none without one.
    pub(crate) fn placed<'r>(
        &self,
        written: BTreeMap<DeliveryId, Delivery>,
        row: impl Fn(&DeliveryId) -> Option<&'r Delivery>,
    ) -> Vec<Placed> {
        let fresh = &self.memory.fresh;
        let opened = fresh.iter().filter(|(id, _)| {
            (self.opens_all || self.bulk_begins.contains(&id.slot)) && !written.contains_key(*id)
        });
        let opened: Vec<Delivery> = opened.map(|(_, d)| d.clone()).collect();
        let before = if self.opens_all { 0 } else { fresh.len() };
        let mut room = MOST.saturating_sub(before);
        let mut placed: Vec<Placed> = Vec::with_capacity(written.len() + opened.len());
        for (id, delivery) in written {
            let before = if fresh.contains_key(&id) {
                None
            } else {
                row(&id)
            };
            let (from, sequence) = match before {
                None => (Place::Nowhere, 0),
                Some(before) => (Place::of_row(before), before.sequence),
            };
            let to = match from {
                Place::Nowhere => self.place(&delivery, &mut room),
                _ => Place::of_row(&delivery),
            };
            placed.push(Placed {
                from,
                sequence,
                to,
                delivery,
            });
        }
        placed.extend(opened.into_iter().map(|delivery| Placed {
            from: Place::Nowhere,
            sequence: 0,
            to: Place::Open,
            delivery,
        }));
        placed
    }
}

/// Returns those of these deliveries, named by their events, that no row was found of and that are within retention.
pub(crate) fn without_row(
    named: &[(DeliveryId, u64)],
    has_row: impl Fn(&DeliveryId) -> bool,
    kept_from: UnixMs,
    stamp: u64,
) -> impl Iterator<Item = Delivery> {
    named
        .iter()
        .filter(move |(id, _)| !has_row(id) && id.event.accepted_at() >= kept_from)
        .map(move |(id, sequence)| Delivery::accepted(*id, *sequence, stamp))
}

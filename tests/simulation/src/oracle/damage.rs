//! A damaged file: intact data is as announced and continues; damaged data is named, and ends or is set aside.

use super::Oracle;
use super::deep::pairs_of;
use super::deep::same;
use std::collections::BTreeSet;
use stormhook_store::{DeliveryId, Reader, Status};

/// The state of a run with a damaged file.
#[derive(Default)]
pub(super) struct Damage {
    /// The file is damaged.
    struck: bool,
    /// What the damage affected: rows that read differently than announced, or not at all, and the deliveries of such
    /// events.
    touched: BTreeSet<DeliveryId>,
    /// Deliveries whose outcome could not be recorded because a page that it changes is damaged. They are not queued
    /// until the next start.
    set_aside: BTreeSet<DeliveryId>,
    opened: bool,
    /// `check` names damage.
    named: bool,
    /// The state that the oracle follows is damaged itself.
    given_up: bool,
}

impl Oracle {
    /// The file is damaged while it is closed.
    pub(crate) fn damaged(&mut self) {
        self.tally.damaged += 1;
        self.damage = Damage {
            struck: true,
            ..Damage::default()
        };
    }

    /// The file is as it was before.
    pub(crate) fn restored(&mut self) {
        self.damage = Damage::default();
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damage.struck
    }

    /// Whether the damaged file was opened: it must open again.
    pub(crate) fn has_opened_damage(&self) -> bool {
        self.damage.opened
    }

    /// Whether an endpoint may stay disabled: the page of its row is damaged, so it can't be changed.
    pub(crate) fn holds_for_damage(&self) -> bool {
        self.expect_named("an endpoint can't be enabled").is_ok()
    }

    /// Whether this run can't be checked any further.
    pub(crate) fn has_given_up(&self) -> bool {
        self.damage.given_up
    }

    /// Whether nothing is guaranteed for this delivery except that no other body is sent for it.
    pub(super) fn is_touched(&self, id: DeliveryId) -> bool {
        self.damage.touched.contains(&id)
    }

    /// Whatever a damaged store can't do, `check` must name the cause.
    pub(crate) fn expect_named(&self, what: &str) -> Result<(), String> {
        if self.damage.struck && self.damage.named {
            return Ok(());
        }
        Err(format!("check names no damage: {what}"))
    }

    /// An outcome was set aside because it met damage.
    pub(crate) fn set_aside(&mut self, id: DeliveryId, damage: &str) {
        self.note(format!("{id} is set aside: {damage}"));
        match self.expect_named(damage) {
            Ok(()) => {
                self.damage.touched.insert(id);
                self.damage.set_aside.insert(id);
            }
            Err(why) => self.violated(format!("{id} is set aside: {why}")),
        }
        self.flying.remove(&id);
    }

    /// A damaged file was opened: finds what is not as announced, and checks that `check` names it.
    pub(super) fn survey(&mut self, reader: &Reader) -> Result<(), String> {
        self.damage.opened = true;
        let report = reader.check();
        self.damage.named = match &report {
            Ok(report) => !report.damage.is_empty(),
            Err(e) => e.is_damage(),
        };
        let named = self.damage.named;
        self.note(format!("check names damage: {named}"));
        if reader.commit() != self.commit {
            return self.give_up(&format!("it is at commit {}", reader.commit()));
        }
        for id in self.deliveries.keys().copied().collect::<Vec<_>>() {
            if self.is_touched(id) {
                continue;
            }
            let read = reader.bare_delivery(id);
            let whole = matches!(&read, Ok(Some(d)) if *d == self.deliveries[&id]);
            if !whole {
                self.expect_named(&format!("{id} is {read:?}"))?;
                self.damage.touched.insert(id);
            }
        }
        for (id, expected) in self.events.clone() {
            let read = reader.event(id);
            if matches!(&read, Ok(Some(event)) if event.data.is_none() || *event == expected) {
                continue;
            }
            let pairs = self.deliveries.range(pairs_of(id));
            let pairs: Vec<_> = pairs.map(|(pair, _)| *pair).collect();
            if !pairs.is_empty() && pairs.iter().all(|pair| self.is_touched(*pair)) {
                continue;
            }
            // Data past retention may be missing with or without damage.
            let gone = matches!(read, Ok(None)) && id.accepted_at() < reader.swept_before();
            if !gone {
                self.expect_named(&format!("{id} is {read:?}"))?;
            }
            self.damage.touched.extend(pairs);
        }
        self.tally.touched += self.damage.touched.len() as u64;
        // The state in memory decides what follows: if it is damaged there is nothing to compare with.
        if let Err(why) = self.compare_endpoints(reader) {
            return self.give_up(&why);
        }
        for slot in self.endpoints.keys().copied().collect::<Vec<_>>() {
            let last = self.last_sequence.get(&slot).copied().unwrap_or(0);
            let state = reader.state(slot);
            if state.last_sequence != last {
                return self.give_up(&format!("{slot:?} has the state {state:?}"));
            }
            if let Err(why) = self.compare_state(reader, slot) {
                self.expect_named(&why)?;
                self.states.insert(slot, state);
            }
        }
        Ok(())
    }

    fn give_up(&mut self, why: &str) -> Result<(), String> {
        self.expect_named(why)?;
        self.note(format!("not followed further: {why}"));
        self.tally.damage_not_followed += 1;
        self.damage.given_up = true;
        Ok(())
    }

    /// Checks that intact data is as announced.
    pub(super) fn compare_whole(&mut self, reader: &Reader) -> Result<(), String> {
        for (id, expected) in &self.deliveries {
            if self.is_touched(*id) {
                continue;
            }
            match reader.bare_delivery(*id) {
                Ok(Some(d)) if same(&d, expected) => {}
                other => return Err(format!("{id} is {other:?}, announced was {expected:?}")),
            }
        }
        self.compare_endpoints(reader)
    }

    /// In the end nothing is open: each affected delivery was delivered, ended as damaged, was set aside, or can't be
    /// read.
    pub(crate) fn expect_touched_ended(&mut self) {
        let Some(reader) = self.life.as_ref().map(|life| life.reader.clone()) else {
            return;
        };
        for id in self.damage.touched.clone() {
            if let Ok(Some(d)) = reader.bare_delivery(id)
                && d.status.is_open()
                && !self.damage.set_aside.contains(&id)
                && self.endpoints.contains_key(&id.slot)
            {
                let status = d.status.as_str();
                self.violated(format!("{id}, which is damaged, is still {status}"));
            }
            if let Ok(Some(d)) = reader.bare_delivery(id)
                && d.status == Status::Failed
                && d.reason.is_some_and(|reason| reason.as_str() == "damaged")
            {
                self.tally.ended_as_damaged += 1;
            }
        }
    }
}

//! The whole file against everything that was announced: after each start, and from time to time.

use super::Oracle;
use super::everything::{all_deliveries, all_events, list};
use super::rules::{self, Recorded};
use std::collections::{BTreeMap, BTreeSet};
use stormhook_engine::schedule::Gauges;
use stormhook_store::query::DeliveryFilter;
use stormhook_store::stats::Span;
use stormhook_store::{
    AttemptOutcome, Delivery, DeliveryId, EventId, Reader, Slot, StatsOf, Status, UnixMs,
};

/// The stamp is internal to the store: it grows when the result of a bulk change is written.
pub(super) fn same(found: &Delivery, expected: &Delivery) -> bool {
    let mut found = found.clone();
    found.stamp = expected.stamp;
    found == *expected
}

impl Oracle {
    /// After a start the file has what was announced, and possibly the commit that was in progress when the process
    /// died.
    pub(super) fn restarted(&mut self, crashed: bool) {
        let Some(reader) = self.life.as_ref().map(|life| life.reader.clone()) else {
            return;
        };
        let found = reader.commit();
        self.note(format!("start at commit {found}"));
        if self.is_damaged() {
            if let Err(why) = self.survey(&reader) {
                self.violated(format!("after the damage: {why}"));
            }
            return;
        }
        let checked = match found.checked_sub(self.commit) {
            Some(0) => self.compare(&reader),
            Some(1) if crashed => self.adopt(&reader),
            _ => Err(format!(
                "commit {} was announced, and the file is at {found}",
                self.commit
            )),
        };
        if let Err(why) = checked {
            self.violated(format!("after a restart: {why}"));
        }
    }

    /// From time to time: everything, including the queues in memory.
    pub(crate) fn look_through(&mut self, gauges: Option<Gauges>) {
        let Some(reader) = self.life.as_ref().map(|life| life.reader.clone()) else {
            return;
        };
        self.tally.checks += 1;
        if self.is_damaged() {
            if let Err(why) = self.compare_whole(&reader) {
                self.violated(format!("check of the intact data: {why}"));
            }
            return;
        }
        let checked = self.compare(&reader).and_then(|()| match gauges {
            Some(gauges) => self.compare_queues(&reader, gauges),
            None => Ok(()),
        });
        if let Err(why) = checked {
            self.violated(format!("check of everything: {why}"));
        }
    }

    fn compare(&mut self, reader: &Reader) -> Result<(), String> {
        check(reader)?;
        let found = all_deliveries(reader)?;
        for (id, expected) in &self.deliveries {
            match found.get(id) {
                Some(d) if same(d, expected) => {}
                other => return Err(format!("{id} is {other:?}, announced was {expected:?}")),
            }
        }
        if let Some(id) = found.keys().find(|id| !self.deliveries.contains_key(id)) {
            return Err(format!("{id} is stored but was never announced"));
        }
        self.compare_events(reader)?;
        self.compare_endpoints(reader)?;
        let counters = self.counters(reader)?;
        if counters != self.counters {
            return Err(format!(
                "the counters are {counters:?}, expected {:?}",
                self.counters
            ));
        }
        self.compare_lists(reader, &found)?;
        for slot in self.endpoints.keys() {
            let expected = self.last_sequence.get(slot).unwrap_or(&0);
            let state = reader.state(*slot);
            if state.last_sequence != *expected {
                return Err(format!(
                    "{slot:?} is at sequence {}, announced: {expected}",
                    state.last_sequence
                ));
            }
            self.compare_state(reader, *slot)?;
        }
        Ok(())
    }

    pub(super) fn compare_state(&self, reader: &Reader, slot: Slot) -> Result<(), String> {
        let (state, known) = (reader.state(slot), self.state_of(slot));
        let of = |s: &stormhook_store::EndpointState| {
            (s.failure_count, s.failing_since, s.last_success_at)
        };
        if of(&state) == of(&known) {
            return Ok(());
        }
        Err(format!(
            "{slot:?} has the state {state:?}, announced: {known:?}"
        ))
    }

    /// Each endpoint's own list, from the journal and the generations, has its deliveries and nothing else.
    fn compare_lists(
        &self,
        reader: &Reader,
        found: &BTreeMap<DeliveryId, Delivery>,
    ) -> Result<(), String> {
        let mut expected: BTreeMap<Slot, BTreeMap<u64, DeliveryId>> = BTreeMap::new();
        for (id, d) in found {
            let of_slot = expected.entry(id.slot).or_default();
            of_slot.insert(d.sequence, *id);
        }
        for (slot, expected) in &expected {
            let endpoint = self.endpoints.get(slot);
            let endpoint =
                endpoint.ok_or_else(|| format!("deliveries of an unknown endpoint {slot:?}"))?;
            let filter = DeliveryFilter {
                endpoint: Some(endpoint.id),
                ..DeliveryFilter::default()
            };
            let listed = list(reader, &filter)?;
            let listed: Vec<_> = listed.iter().map(|d| d.id).collect();
            // The greatest sequence number comes first.
            let expected: Vec<_> = expected.values().rev().copied().collect();
            if listed != expected {
                return Err(format!(
                    "the list of {} is {listed:?}, stored: {expected:?}",
                    endpoint.id
                ));
            }
        }
        Ok(())
    }

    fn counters(&self, reader: &Reader) -> Result<stormhook_store::stats::Counters, String> {
        let window = reader.stats(Span::All, UnixMs(self.store_ms()), &StatsOf::All);
        let mut counters = window
            .map_err(|e| format!("stats can't be read: {e}"))?
            .counters;
        // The count of abandoned deliveries follows from the deliveries themselves.
        counters.abandoned = self.counters.abandoned;
        Ok(counters)
    }

    fn compare_events(&mut self, reader: &Reader) -> Result<(), String> {
        let found = all_events(reader)?;
        let swept = reader.swept_before();
        let attempts = self.plan.settings.retention.attempts.as_millis();
        let keep_ms = u64::try_from(attempts).unwrap();
        let mut gone = Vec::new();
        for (id, expected) in &self.events {
            let open = self
                .deliveries
                .range(pairs_of(*id))
                .any(|(_, d)| d.status.is_open());
            match found.get(id) {
                Some(event) if event == expected => {}
                Some(event) if event.data.is_none() && id.accepted_at() < swept && !open => {}
                None if id.accepted_at() < swept
                    && id.accepted_at().0 + keep_ms <= self.expiry.0.0
                    && !open =>
                {
                    gone.push(*id);
                }
                other => return Err(format!("{id} is {other:?}, announced was {expected:?}")),
            }
        }
        for id in gone {
            self.events.remove(&id);
        }
        if let Some(id) = found.keys().find(|id| !self.events.contains_key(id)) {
            return Err(format!("{id} is stored but was never announced"));
        }
        Ok(())
    }

    pub(super) fn compare_endpoints(&mut self, reader: &Reader) -> Result<(), String> {
        let found = reader.all_endpoints();
        let is_found = |slot: Slot| found.iter().any(|e| e.slot == slot);
        let expiry_ms = self.expiry.0.0;
        let (retention, deliveries) = (&self.plan.settings.retention, &self.deliveries);
        let keep = retention.events.max(retention.attempts).as_millis();
        let keep_ms = u64::try_from(keep).unwrap();
        // A deleted endpoint without deliveries is removed after retention.
        let is_over = |e: &stormhook_store::Endpoint| {
            e.deleted_at.is_some_and(|at| at.0 + keep_ms <= expiry_ms)
                && !deliveries.keys().any(|id| id.slot == e.slot)
        };
        self.endpoints
            .retain(|slot, e| is_found(*slot) || !is_over(e));
        let endpoints = &self.endpoints;
        self.last_sequence
            .retain(|slot, _| endpoints.contains_key(slot));
        let expected: Vec<_> = self.endpoints.values().map(|e| format!("{e:?}")).collect();
        let found: Vec<_> = found.iter().map(|e| format!("{e:?}")).collect();
        if found != expected {
            return Err(format!(
                "the endpoints are {found:?}, announced: {expected:?}"
            ));
        }
        Ok(())
    }

    /// The queues in memory hold the open deliveries. One that a recovery has not reopened yet reads as open, and is
    /// queued once there is room.
    fn compare_queues(&self, reader: &Reader, gauges: Gauges) -> Result<(), String> {
        let mut expected = Gauges::default();
        for d in self.deliveries.values().filter(|d| d.status.is_open()) {
            let receives = self.endpoints.get(&d.id.slot).is_some_and(|e| e.receives());
            match (receives, d.status) {
                (false, _) => expected.held += 1,
                (true, Status::Retrying) => expected.retrying += 1,
                (true, _) => expected.pending += 1,
            }
        }
        // A delivery that ended while its attempt is on the wire counts until that is recorded.
        let is_over = |id: &DeliveryId| self.deliveries.get(id).is_none_or(|d| !d.status.is_open());
        if self.flying.iter().any(is_over) {
            return Ok(());
        }
        let of = |g: &Gauges| (g.pending, g.retrying, g.held);
        let (found, expected) = (of(&gauges), of(&expected));
        let no_more = found.0 <= expected.0 && found.1 <= expected.1 && found.2 <= expected.2;
        if found != expected && !(reader.bulk_waits() && no_more) {
            return Err(format!(
                "the queues hold (pending, retrying, held) {found:?}, expected {expected:?}"
            ));
        }
        Ok(())
    }

    /// The commit that was in progress when the process died happened: the mirror follows it, if it was allowed.
    fn adopt(&mut self, reader: &Reader) -> Result<(), String> {
        check(reader)?;
        self.commit += 1;
        self.follow_pace(reader)?;
        let mut accepted = BTreeSet::new();
        for (id, event) in all_events(reader)? {
            if self.events.contains_key(&id) {
                continue;
            }
            accepted.insert(id);
            if event.event_type == "stormhook.endpoint.disabled" {
                self.events.insert(id, event);
            } else {
                self.learn_event(&event)?;
            }
        }
        self.counters.accepted += accepted.len() as u64;
        let endpoints = reader.all_endpoints().into_iter();
        let endpoints = endpoints.map(|e| (e.slot, e)).collect();
        let before_endpoints = std::mem::replace(&mut self.endpoints, endpoints);
        for (slot, before) in &before_endpoints {
            if let Some(after) = self.endpoints.get(slot) {
                rules::secrets_may_follow(before, after)?;
            }
        }
        let found = all_deliveries(reader)?;
        let mut recorded_of: BTreeMap<Slot, Vec<(DeliveryId, u32, bool)>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        let known: Vec<_> = self.deliveries.keys().copied().collect();
        // A delivery that ended with this commit and was swept with it leaves no trace of how it ended.
        let mut is_counted = true;
        for id in known {
            let before = self.deliveries[&id].clone();
            let Some(after) = found.get(&id) else {
                if self.is_old(id) {
                    if !self.is_over(id) {
                        is_counted = false;
                        unknown.insert(id.slot);
                    }
                    self.forget(id);
                    continue;
                }
                return Err(format!("{id} is missing"));
            };
            let recorded = Recorded {
                attempts: None,
                marked: true,
            };
            self.moved(&before, after, &recorded)
                .and_then(|()| self.expect_possible_cause(Some(&before), after, false))
                .map_err(|why| format!("{id}: {why}"))?;
            if after.attempts_total > before.attempts_total
                && let Some(attempt) = after.attempts.last()
                && attempt.outcome != AttemptOutcome::Interrupted
            {
                let success = attempt.outcome == AttemptOutcome::Success;
                self.count_attempt(after, success);
                let of_slot = recorded_of.entry(id.slot).or_default();
                of_slot.push((id, attempt.number, success));
            }
            self.deliveries.insert(id, after.clone());
        }
        let mut made: Vec<_> = found
            .into_values()
            .filter(|d| !self.deliveries.contains_key(&d.id))
            .collect();
        made.sort_by_key(|d| (d.id.slot, d.sequence));
        for d in made {
            self.expect_possible_cause(None, &d, accepted.contains(&d.id.event))?;
            self.made(d)?;
        }
        self.take_over_recovers();
        self.adopt_states(reader, &before_endpoints, &recorded_of, &unknown)?;
        let counters = self.counters(reader)?;
        // Only callers know how many keys were repeated, and their answers are lost.
        let of = |c: &stormhook_store::stats::Counters| {
            let attempts = (c.success, c.failure, c.first_attempts, c.first_successes);
            (c.accepted, attempts)
        };
        let again = |c: &stormhook_store::stats::Counters| (c.replays, c.conflicts);
        let (found_again, known_again) = (again(&counters), again(&self.counters));
        let fewer = found_again.0 < known_again.0 || found_again.1 < known_again.1;
        if is_counted && (fewer || of(&counters) != of(&self.counters)) {
            return Err(format!(
                "the counters are {counters:?}, expected {:?}",
                self.counters
            ));
        }
        self.counters = counters;
        self.count_generations(reader);
        self.compare(reader)
    }

    /// Checks that every delivery has ended.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_open = |d: &Delivery| d.status.is_open() && !self.is_touched(d.id);
        !self.deliveries.values().any(is_open)
    }
}

pub(super) fn pairs_of(event: EventId) -> std::ops::RangeInclusive<DeliveryId> {
    let pair = |slot| DeliveryId {
        event,
        slot: stormhook_store::Slot(slot),
    };
    pair(0)..=pair(u32::MAX)
}

fn check(reader: &Reader) -> Result<(), String> {
    let report = reader
        .check()
        .map_err(|e| format!("the file can't be checked: {e}"))?;
    match report.damage.first() {
        None => Ok(()),
        Some(damage) => Err(format!(
            "check names {} damages: {damage}",
            report.damage.len()
        )),
    }
}

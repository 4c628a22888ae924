//! The whole file against everything that was announced: after each start, and once in a while.

use super::Oracle;
use super::rules::Recorded;
use std::collections::BTreeMap;
use std::sync::Arc;
use stormhook::schedule::Gauges;
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::stats::Span;
use stormhook_store::{
    AttemptOutcome, Delivery, DeliveryId, Event, EventId, Reader, StatsOf, Status, UnixMs,
};

const PAGE: usize = 250;

fn all_deliveries(reader: &Reader) -> Result<BTreeMap<DeliveryId, Delivery>, String> {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = reader.deliveries(&DeliveryFilter::default(), after, PAGE);
        let page = page.map_err(|e| format!("deliveries can't be listed: {e}"))?;
        for view in page.items {
            all.insert(view.delivery.id, view.delivery);
        }
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn all_events(reader: &Reader) -> Result<BTreeMap<EventId, Arc<Event>>, String> {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = reader.events(&EventFilter::default(), after, PAGE);
        let page = page.map_err(|e| format!("events can't be listed: {e}"))?;
        all.extend(page.items.into_iter().map(|event| (event.id, event)));
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

impl Oracle {
    /// What the file holds after a start is what was announced, and what of the last commit was under way when the process died.
    pub(super) fn restarted(&mut self, crashed: bool) {
        let Some(reader) = self.life.as_ref().map(|life| life.reader.clone()) else {
            return;
        };
        let found = reader.commit();
        self.note(format!("start at commit {found}"));
        let checked = match found.checked_sub(self.commit) {
            Some(0) => self.compare(&reader),
            Some(1) if crashed => self.adopt(&reader),
            _ => Err(format!(
                "commit {} was announced, and the file is at {found}",
                self.commit
            )),
        };
        if let Err(why) = checked {
            self.violated(format!("after the restart: {why}"));
        }
    }

    /// Once in a while: everything, the queues in memory too.
    pub(crate) fn look_through(&mut self, gauges: Option<Gauges>) {
        let Some(reader) = self.life.as_ref().map(|life| life.reader.clone()) else {
            return;
        };
        self.tally.checks += 1;
        let checked = self.compare(&reader).and_then(|()| match gauges {
            Some(gauges) => self.compare_queues(&reader, gauges),
            None => Ok(()),
        });
        if let Err(why) = checked {
            self.violated(format!("looked through: {why}"));
        }
    }

    fn compare(&mut self, reader: &Reader) -> Result<(), String> {
        check(reader)?;
        let found = all_deliveries(reader)?;
        for (id, expected) in &self.deliveries {
            match found.get(id) {
                Some(d) if d == expected => {}
                other => return Err(format!("{id} is {other:?}, announced was {expected:?}")),
            }
        }
        if let Some(id) = found.keys().find(|id| !self.deliveries.contains_key(id)) {
            return Err(format!("{id} is stored and was never announced"));
        }
        self.compare_events(reader)?;
        self.compare_endpoints(reader)?;
        let counters = self.counters(reader)?;
        if counters != self.counters {
            return Err(format!(
                "counted are {counters:?}, seen were {:?}",
                self.counters
            ));
        }
        for (slot, expected) in &self.last_sequence {
            let state = reader.state(*slot);
            let known = self.state_of(*slot);
            if state.last_sequence != *expected {
                return Err(format!(
                    "{slot:?} is at sequence {}, announced was {expected}",
                    state.last_sequence
                ));
            }
            let of = |s: &stormhook_store::EndpointState| {
                (s.failure_count, s.failing_since, s.last_success_at)
            };
            if of(&state) != of(&known) {
                return Err(format!(
                    "{slot:?} does as {state:?}, announced was {known:?}"
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
        // What was given up is told by the deliveries.
        counters.abandoned = self.counters.abandoned;
        Ok(counters)
    }

    fn compare_events(&mut self, reader: &Reader) -> Result<(), String> {
        let found = all_events(reader)?;
        let swept = reader.swept_before();
        let attempts = self.plan.config.retention.attempts.as_millis();
        let keep_ms = u64::try_from(attempts).unwrap();
        let latest_ms = self.latest_ms.max(self.store_ms());
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
                    && id.accepted_at().0 + keep_ms <= latest_ms
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
        let notice = |event: &Event| event.event_type == "stormhook.endpoint.disabled";
        let unknown = found
            .values()
            .find(|e| !self.events.contains_key(&e.id) && !notice(e));
        if let Some(event) = unknown {
            return Err(format!("{} is stored and was never announced", event.id));
        }
        Ok(())
    }

    fn compare_endpoints(&self, reader: &Reader) -> Result<(), String> {
        let found = reader.all_endpoints();
        // What marks are left of those that were worked off is the store's own affair.
        let of = |e: &stormhook_store::Endpoint| {
            let mut e = e.clone();
            e.ended.clear();
            format!("{e:?}")
        };
        let expected: Vec<_> = self.endpoints.values().map(|e| of(e)).collect();
        let found: Vec<_> = found.iter().map(|e| of(e)).collect();
        if found != expected {
            return Err(format!(
                "endpoints are {found:?}, announced were {expected:?}"
            ));
        }
        Ok(())
    }

    /// What waits in memory is what is open. What a recover is still to open reads as open, and waits once there is room for it.
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
        // What ended with an attempt on the wire is counted until that is recorded.
        let is_over = |id: &DeliveryId| self.deliveries.get(id).is_none_or(|d| !d.status.is_open());
        if self.flying.iter().any(is_over) {
            return Ok(());
        }
        let of = |g: &Gauges| (g.pending, g.retrying, g.held);
        let (found, expected) = (of(&gauges), of(&expected));
        let no_more = found.0 <= expected.0 && found.1 <= expected.1 && found.2 <= expected.2;
        if found != expected && !(reader.jobs_wait() && no_more) {
            return Err(format!(
                "queues hold (pending, retrying, held) {found:?}, open are {expected:?}"
            ));
        }
        Ok(())
    }

    /// The commit that was under way when the process died happened: it is taken over, if it may have been.
    fn adopt(&mut self, reader: &Reader) -> Result<(), String> {
        check(reader)?;
        self.commit += 1;
        self.latest_ms = self.latest_ms.max(self.store_ms());
        for (id, event) in all_events(reader)? {
            if event.event_type == "stormhook.endpoint.disabled" {
                self.events.insert(id, event);
            } else if !self.events.contains_key(&id) {
                self.learn_event(&event)?;
            }
        }
        self.endpoints = reader
            .all_endpoints()
            .into_iter()
            .map(|e| (e.slot, e))
            .collect();
        let found = all_deliveries(reader)?;
        let known: Vec<_> = self.deliveries.keys().copied().collect();
        // One that ended with this commit and was swept with it took along how it ended.
        let mut is_counted = true;
        for id in known {
            let before = self.deliveries[&id].clone();
            let Some(after) = found.get(&id) else {
                if self.is_old(id) {
                    is_counted &= self.is_over(id);
                    self.forget(id);
                    continue;
                }
                return Err(format!("{id} is gone"));
            };
            let recorded = Recorded {
                attempts: None,
                marked: true,
            };
            self.moved(&before, after, &recorded)
                .map_err(|why| format!("{id}: {why}"))?;
            if after.attempts_total > before.attempts_total
                && let Some(attempt) = after.attempts.last()
                && attempt.outcome != AttemptOutcome::Interrupted
            {
                self.count_attempt(after, attempt.outcome == AttemptOutcome::Success);
            }
            self.deliveries.insert(id, after.clone());
        }
        let mut made: Vec<_> = found
            .into_values()
            .filter(|d| !self.deliveries.contains_key(&d.id))
            .collect();
        made.sort_by_key(|d| (d.id.slot, d.sequence));
        for d in made {
            self.made(d)?;
        }
        for slot in self.endpoints.keys().copied().collect::<Vec<_>>() {
            self.states.insert(slot, reader.state(slot));
        }
        let counters = self.counters(reader)?;
        let attempts = |c: &stormhook_store::stats::Counters| {
            (c.success, c.failure, c.first_attempts, c.first_successes)
        };
        if is_counted && attempts(&counters) != attempts(&self.counters) {
            return Err(format!(
                "counted are {counters:?}, seen were {:?}",
                self.counters
            ));
        }
        self.counters = counters;
        self.count_generations(reader);
        self.compare(reader)
    }

    /// Nothing is left to do for endpoints that receive.
    pub(crate) fn is_quiet(&self) -> bool {
        let receives = |d: &Delivery| self.endpoints.get(&d.id.slot).is_some_and(|e| e.receives());
        !self
            .deliveries
            .values()
            .any(|d| d.status.is_open() && receives(d))
    }
}

fn pairs_of(event: EventId) -> std::ops::RangeInclusive<DeliveryId> {
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

//! Announced commits: the changes of each are read back from the store and compared with what may follow.

use super::rules::{self, Recorded};
use super::seen::{Seen, commanded};
use super::{Oracle, Waits};
use std::collections::{BTreeMap, VecDeque};
use stormhook_store::endpoint::Ordering;
use stormhook_store::{
    Accepted, Applied, AttemptOutcome, Change, Delivery, DeliveryId, Done, Event, EventFilter,
    NewEvent, Reader, Refusal, Slot,
};

impl Oracle {
    /// A commit is announced: the store's memory has it, and nothing else knows yet.
    pub(crate) fn committed(&mut self, applied: &Applied, settled: &[Option<DeliveryId>]) {
        let Some(reader) = self.life.as_ref().map(|life| life.reader.clone()) else {
            return;
        };
        self.tally.commits += 1;
        if self.tally.commits == super::MOST_COMMITS {
            self.violated(format!(
                "{} commits: the engine commits without end",
                self.tally.commits
            ));
        }
        self.note(format!(
            "commit {} of {}",
            applied.commit,
            applied.done.len()
        ));
        if let Err(why) = self.follow(&reader, applied, settled) {
            self.violated(format!("commit {}: {why}", applied.commit));
        }
    }

    fn follow(
        &mut self,
        reader: &Reader,
        applied: &Applied,
        settled: &[Option<DeliveryId>],
    ) -> Result<(), String> {
        if applied.commit != self.commit + 1 {
            return Err(format!("the one before it was {}", self.commit));
        }
        self.commit = applied.commit;
        self.follow_pace(reader)?;
        let mut seen = Seen::default();
        let before = self.endpoints.clone();
        self.note_changes(applied, &mut seen)?;
        for (at, (done, of)) in applied.done.iter().zip(settled).enumerate() {
            seen.note_place(at, done);
            self.note_done(done, *of, &mut seen)?;
        }
        for slot in seen.marked.union(&seen.advanced) {
            let of_slot = self.deliveries.keys().filter(|id| id.slot == *slot);
            seen.touched.extend(of_slot.copied());
        }
        self.learn_events(reader, &mut seen)?;
        self.check_fan_out(&seen, &before)?;
        self.check_deliveries(reader, &seen)?;
        self.follow_states(applied, &before, &seen)?;
        if seen.swept {
            self.forget_swept(reader)?;
        }
        self.count_generations(reader);
        Ok(())
    }

    /// Counts the folds of the journal, and the dropped generations.
    pub(super) fn count_generations(&mut self, reader: &Reader) {
        let (made, left) = reader.generations();
        let (had_made, had_left) = self.generations;
        let new = made - had_made;
        self.tally.folds += new;
        self.tally.generations_dropped += had_left + new - left;
        self.generations = (made, left);
    }

    fn note_changes(&mut self, applied: &Applied, seen: &mut Seen) -> Result<(), String> {
        for change in &applied.changes {
            match change {
                Change::Waiting(waiting) => drop(seen.touched.insert(waiting.id)),
                Change::Ended(id) => {
                    seen.touched.insert(*id);
                    seen.ended.insert(*id);
                }
                Change::Bulk(slot, _) => drop(seen.marked.insert(*slot)),
                Change::Purge(_) => return Err("nobody purges".to_owned()),
                Change::Gained(_) | Change::Lost(_) => {
                    return Err("shards moved, and there is one process".to_owned());
                }
                Change::Endpoint(endpoint) => {
                    let slot = endpoint.slot;
                    let before = self.endpoints.insert(slot, endpoint.clone());
                    if let Some(before) = &before {
                        rules::secrets_may_follow(before, endpoint)?;
                    }
                    seen.configured.insert(slot);
                    let from_ms = self.now_ms() + super::wire::SETTLES_MS;
                    self.paced.insert(slot, (from_ms, VecDeque::new()));
                    if let Some(reason) = &endpoint.disabled_reason
                        && !endpoint.active
                        && before.as_ref().is_some_and(|b| b.active)
                    {
                        seen.switched_off.push((slot, reason.clone()));
                    }
                    let is_fifo = endpoint.ordering == Ordering::Fifo;
                    if is_fifo && before.is_none_or(|b| b.ordering != Ordering::Fifo) {
                        self.fifo_from.insert(slot, self.now_ms());
                    }
                }
            }
        }
        Ok(())
    }

    fn note_done(
        &mut self,
        done: &Done,
        of: Option<DeliveryId>,
        seen: &mut Seen,
    ) -> Result<(), String> {
        seen.touched
            .extend(commanded(done).map(|delivery| delivery.id));
        match done {
            Done::Accept(Ok(Accepted {
                event,
                replayed: false,
            })) => {
                self.counters.accepted += 1;
                seen.accepted.insert(event.id);
                self.learn_event(event)?;
            }
            Done::Accept(Ok(Accepted {
                event,
                replayed: true,
            })) => {
                self.counters.replays += 1;
                if self
                    .events
                    .get(&event.id)
                    .is_none_or(|known| known.data != event.data)
                {
                    return Err(format!("{} was replayed but is not as accepted", event.id));
                }
            }
            Done::Settle(Ok(delivery)) => {
                seen.touched.insert(delivery.id);
                *seen.recorded.entry(delivery.id).or_default() += 1;
                self.flying.remove(&delivery.id);
            }
            Done::Recover(Ok(recover)) => self.recovers(recover),
            Done::AdvanceBulk(left) => drop(seen.advanced.insert(left.slot)),
            Done::Sweep(_) => {
                seen.swept = true;
                self.tally.sweeps += 1;
            }
            Done::Damaged(what) => match of {
                Some(id) => self.set_aside(id, what),
                None => self.expect_named(what)?,
            },
            Done::Accept(Err(Refusal::IdempotencyConflict)) => self.counters.conflicts += 1,
            Done::Settle(Err(why))
                if let Some(id) = of
                    && self.deliveries.contains_key(&id)
                    && !self.is_touched(id) =>
            {
                return Err(format!("the outcome of {id} was refused: {why}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// An event is stored: submitted by a caller, not refused, and only once.
    pub(super) fn learn_event(&mut self, event: &Event) -> Result<(), String> {
        let id = event.id;
        let key = event.idempotency_key.as_deref().unwrap_or("no key");
        self.note(format!("stored {id} of {} with {key}", event.organization));
        if let Some(number) = rules::number_of(event) {
            match self.handed_over.get_mut(&number) {
                Some(left) if *left > 0 => *left -= 1,
                _ => return Err(format!("{id} is stored more often than it was submitted")),
            }
        }
        if let Some(last) = self
            .events
            .last_key_value()
            .filter(|(last, _)| **last >= id)
        {
            return Err(format!("{id} follows {}", last.0));
        }
        if let Some(key) = &event.idempotency_key {
            let key = (event.organization.clone(), key.clone());
            let ttl_ms = u64::try_from(self.plan.idempotency_ttl.as_millis()).unwrap();
            if let Some(known) = self.keys.insert(key, id)
                && known.accepted_at().plus_ms(ttl_ms) > self.expiry.0
            {
                return Err(format!(
                    "{id} has the key of {known}, which has not expired"
                ));
            }
        }
        self.events.insert(id, event.clone().into());
        Ok(())
    }

    /// Events that the daemon itself stored in this commit, one for each endpoint that it disabled. They need no
    /// subscriber.
    fn learn_events(&mut self, reader: &Reader, seen: &mut Seen) -> Result<(), String> {
        if seen.switched_off.is_empty() {
            return Ok(());
        }
        // What is damaged takes places in the page.
        let damaged = if self.is_damaged() { 100 } else { 0 };
        let stored = seen.accepted.len() + seen.switched_off.len() + damaged;
        let newest = reader.events(&EventFilter::default(), None, stored);
        for event in newest.map_err(|e| e.to_string())?.items {
            if self.events.contains_key(&event.id) {
                continue;
            }
            if event.event_type != "stormhook.endpoint.disabled" {
                return Err(format!(
                    "{} is stored, but no caller submitted it",
                    event.id
                ));
            }
            seen.noticed.insert(event.id);
            self.events.insert(event.id, event);
        }
        Ok(())
    }

    /// Each accepted event created a delivery to each subscribed endpoint, and to no other.
    fn check_fan_out(
        &self,
        seen: &Seen,
        before: &BTreeMap<Slot, std::sync::Arc<stormhook_store::Endpoint>>,
    ) -> Result<(), String> {
        if !seen.configured.is_empty() {
            return Ok(());
        }
        for id in &seen.accepted {
            let event = &self.events[id];
            let expected: Vec<Slot> = before
                .values()
                .filter(|e| {
                    e.organization == event.organization
                        && e.receives()
                        && e.subscribes_to(&event.event_type)
                })
                .map(|e| e.slot)
                .collect();
            let found: Vec<Slot> = seen
                .touched
                .iter()
                .filter(|d| d.event == *id)
                .map(|d| d.slot)
                .collect();
            if expected != found || expected.len() != event.deliveries as usize {
                return Err(format!("{id} goes to {found:?}, {expected:?} subscribed"));
            }
        }
        Ok(())
    }

    fn check_deliveries(&mut self, reader: &Reader, seen: &Seen) -> Result<(), String> {
        let mut made = Vec::new();
        for id in &seen.touched {
            if self.is_touched(*id) {
                continue;
            }
            let after = reader.bare_delivery(*id).map_err(|e| e.to_string())?;
            let Some(after) = after else {
                // A damaged key in the queue names a delivery that never was.
                let never_was = self.is_damaged() && !self.deliveries.contains_key(id);
                if never_was && seen.ended.contains(id) {
                    continue;
                }
                let over = seen.ended.contains(id) || self.is_over(*id);
                if seen.swept && over && self.is_old(*id) {
                    self.forget(*id);
                    continue;
                }
                return Err(format!("{id} is missing"));
            };
            let Some(before) = self.deliveries.get(id).cloned() else {
                made.push(after);
                continue;
            };
            let recorded = Recorded {
                attempts: seen.recorded.get(id).copied(),
                marked: seen.marked.contains(&id.slot),
            };
            self.moved(&before, &after, &recorded)
                .and_then(|()| self.expect_cause(&before, &after, seen))
                .map_err(|why| format!("{id}: {why}"))?;
            self.deliveries.insert(*id, after);
        }
        made.sort_by_key(|d| (d.id.slot, d.sequence));
        for d in made {
            self.expect_cause_of_new(&d, seen)?;
            self.made(d)?;
        }
        Ok(())
    }

    /// A delivery is new.
    pub(super) fn made(&mut self, d: Delivery) -> Result<(), String> {
        let last = self.last_sequence.entry(d.id.slot).or_default();
        if d.sequence != *last + 1 {
            return Err(format!("{} has sequence {} after {last}", d.id, d.sequence));
        }
        *last = d.sequence;
        if d.attempts_total != 0 {
            return Err(format!("{} is new and has attempts", d.id));
        }
        self.tally.deliveries += 1;
        self.deliveries.insert(d.id, d);
        Ok(())
    }

    /// A delivery changed from one state to another.
    pub(super) fn moved(
        &mut self,
        before: &Delivery,
        after: &Delivery,
        recorded: &Recorded,
    ) -> Result<(), String> {
        rules::may_follow(before, after, recorded)?;
        let new = after.attempts_total - before.attempts_total;
        for attempt in after.attempts.iter().rev().take(new as usize) {
            let told = self.told.get(&(after.id, attempt.number));
            let requested = self.was_requested(after.id, attempt.number);
            rules::is_bounded(attempt, &self.plan.settings)?;
            match (attempt.outcome, told) {
                // The attempt was interrupted, but its receiver had the request.
                (AttemptOutcome::Interrupted, None) if requested => {}
                (outcome, Some(told))
                    if told.outcome == outcome
                        && told.code == attempt.response_code
                        && (told.life == self.lives || recorded.attempts.is_none()) => {}
                (outcome, told) => {
                    let number = attempt.number;
                    return Err(format!(
                        "attempt {number} is recorded as {}, the receiver's answer was {told:?}",
                        outcome.as_str()
                    ));
                }
            }
        }
        if new != 1 || after.round != before.round {
            self.waits.remove(&after.id);
            return Ok(());
        }
        let told = self.told.get(&(after.id, after.attempts_total)).copied();
        let retry = &self.plan.settings.retry;
        if let Some(told) = told {
            let wait = rules::settled(before, after, &told, retry, recorded)?;
            let wait = wait.map(|delay_ms| Waits {
                since_ms: told.at_ms,
                jumped_ms: told.jumped_ms,
                delay_ms,
            });
            match wait {
                Some(wait) => drop(self.waits.insert(after.id, wait)),
                None if before.extra => {}
                None => drop(self.waits.remove(&after.id)),
            }
        }
        Ok(())
    }

    /// Whether a request of this attempt reached its receiver.
    fn was_requested(&self, id: DeliveryId, number: u32) -> bool {
        let requests = self.requests.get(&id).into_iter().flatten();
        requests.map(|request| request.number).any(|n| n == number)
    }

    /// Whether a delivery has ended and is past its retention.
    fn may_be_swept(&self, id: DeliveryId) -> bool {
        self.is_old(id) && self.is_over(id)
    }

    pub(super) fn is_over(&self, id: DeliveryId) -> bool {
        let known = self.deliveries.get(&id);
        known.is_some_and(|d| !d.status.is_open())
    }

    pub(super) fn is_old(&self, id: DeliveryId) -> bool {
        let keep = self.plan.settings.retention.attempts;
        let keep_ms = u64::try_from(keep.as_millis()).unwrap();
        id.event.accepted_at().0 + keep_ms <= self.expiry.0.0
    }

    pub(super) fn forget(&mut self, id: DeliveryId) {
        self.tally.swept += 1;
        self.deliveries.remove(&id);
        self.requests.remove(&id);
        self.bodies.remove(&id);
        self.waits.remove(&id);
        self.told.retain(|(of, _), _| *of != id);
    }

    fn forget_swept(&mut self, reader: &Reader) -> Result<(), String> {
        let old: Vec<_> = self
            .deliveries
            .keys()
            .copied()
            .filter(|id| self.may_be_swept(*id))
            .collect();
        for id in old {
            match reader.bare_delivery(id) {
                Ok(None) => self.forget(id),
                Ok(Some(_)) => {}
                Err(_) if self.is_touched(id) => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(())
    }
}

impl Oracle {
    /// A caller submits an event.
    pub(crate) fn hands_over(&mut self, event: &NewEvent) {
        if let Some(number) = rules::number_in(&event.data) {
            *self.handed_over.entry(number).or_default() += 1;
        }
    }

    /// The caller was told that nothing was stored this time.
    pub(crate) fn not_stored(&mut self, event: &NewEvent) {
        if let Some(number) = rules::number_in(&event.data) {
            match self.handed_over.get_mut(&number) {
                Some(left) if *left > 0 => *left -= 1,
                _ => self.violated(format!(
                    "event {number} is stored, but its caller was told that it is not"
                )),
            }
        }
    }
}

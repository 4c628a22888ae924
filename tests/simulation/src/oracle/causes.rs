//! Why a delivery has a round: its event was accepted, or a caller requested it while the delivery had ended.

use super::Oracle;
use super::seen::Seen;
use std::collections::BTreeMap;
use stormhook_store::{Delivery, DeliveryId, EndpointId, Recover};

/// Requests of callers that have no answer yet. A caller that went away never gets one.
#[derive(Default)]
pub(super) struct Asked {
    /// Retries and replays.
    rounds: BTreeMap<DeliveryId, u32>,
    recovers: BTreeMap<EndpointId, u32>,
    /// Accepted recoveries that include missed events: they continue in later commits and lives.
    missed: BTreeMap<EndpointId, Vec<Recover>>,
}

fn answered<K: Ord>(asked: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(left) = asked.get_mut(key) {
        *left = left.saturating_sub(1);
    }
}

fn covers(recover: &Recover, d: &Delivery) -> bool {
    (recover.since..recover.until).contains(&d.id.event.accepted_at())
}

impl Oracle {
    /// A caller requests a round.
    pub(crate) fn asks_round(&mut self, id: DeliveryId) {
        *self.asked.rounds.entry(id).or_default() += 1;
    }

    /// The request has its answer.
    pub(crate) fn round_answered(&mut self, id: DeliveryId) {
        answered(&mut self.asked.rounds, &id);
    }

    /// A caller requests a recovery.
    pub(crate) fn asks_recover(&mut self, endpoint: EndpointId) {
        *self.asked.recovers.entry(endpoint).or_default() += 1;
    }

    /// The request has its answer.
    pub(crate) fn recover_answered(&mut self, endpoint: EndpointId) {
        answered(&mut self.asked.recovers, &endpoint);
    }

    /// The process has ended, and with it all its uncommitted requests.
    pub(super) fn nobody_asks(&mut self) {
        self.asked.rounds.clear();
        self.asked.recovers.clear();
    }

    fn asked_for(&self, id: DeliveryId) -> u32 {
        self.asked.rounds.get(&id).copied().unwrap_or(0)
    }

    fn endpoint_of(&self, d: &Delivery) -> Option<EndpointId> {
        self.endpoints.get(&d.id.slot).map(|e| e.id)
    }

    /// A recovery was accepted.
    pub(super) fn recovers(&mut self, recover: &Recover) {
        if recover.missed {
            let of_endpoint = self.asked.missed.entry(recover.endpoint).or_default();
            of_endpoint.push(recover.clone());
        }
    }

    /// Each round that this commit opened was requested while the delivery had ended. A delivery that ends after a
    /// recovery was accepted stays ended, whether or not the recovery is still in progress.
    pub(super) fn expect_cause(
        &self,
        before: &Delivery,
        after: &Delivery,
        seen: &Seen,
    ) -> Result<(), String> {
        let rounds = after.round.saturating_sub(before.round);
        if rounds == 0 {
            return Ok(());
        }
        let operated = seen.operated.get(&after.id).copied().unwrap_or(0);
        let asked = self.asked_for(after.id).min(operated);
        let endpoint = self.endpoint_of(after);
        let ended_at = if before.status.is_open() {
            let own = seen.ends.get(&after.id).copied();
            let with_all = seen.changed.get(&after.id.slot).copied();
            own.into_iter().chain(with_all).min()
        } else {
            Some(0)
        };
        let recovered = seen.recovers.iter().filter(|(at, recover)| {
            Some(recover.endpoint) == endpoint
                && covers(recover, after)
                && ended_at.is_some_and(|ended| ended <= *at)
        });
        let recovered = u32::try_from(recovered.count()).unwrap_or(u32::MAX);
        if rounds <= asked.saturating_add(recovered) {
            return Ok(());
        }
        Err(format!(
            "round {} was opened without cause: {asked} retries or replays and {recovered} recoveries requested it while it had ended",
            after.round
        ))
    }

    /// A delivery is new because its event was accepted, or because a caller requested it.
    pub(super) fn expect_cause_of_new(&self, d: &Delivery, seen: &Seen) -> Result<(), String> {
        let event = d.id.event;
        let operated = seen.operated.contains_key(&d.id) && self.asked_for(d.id) > 0;
        if seen.accepted.contains(&event) || seen.noticed.contains(&event) || operated {
            return Ok(());
        }
        self.expect_missed(d)
    }

    fn expect_missed(&self, d: &Delivery) -> Result<(), String> {
        let endpoint = self.endpoint_of(d);
        let recovers = endpoint.and_then(|id| self.asked.missed.get(&id));
        if recovers.is_some_and(|all| all.iter().any(|recover| covers(recover, d))) {
            return Ok(());
        }
        Err(format!("{} was created, but no caller requested it", d.id))
    }

    /// The same for a commit that was not announced: the requests may have been in it.
    pub(super) fn expect_possible_cause(
        &self,
        before: Option<&Delivery>,
        after: &Delivery,
        accepted: bool,
    ) -> Result<(), String> {
        if accepted || before.is_some_and(|before| before.round == after.round) {
            return Ok(());
        }
        let recovered = self
            .endpoint_of(after)
            .and_then(|id| self.asked.recovers.get(&id))
            .is_some_and(|asked| *asked > 0);
        if recovered || self.asked_for(after.id) > 0 {
            return Ok(());
        }
        match before {
            None => self.expect_missed(after),
            Some(_) => Err(format!("round {} was opened without cause", after.round)),
        }
    }

    /// A requested recovery may have been accepted with a commit that was not announced.
    pub(super) fn take_over_recovers(&mut self) {
        for (endpoint, asked) in &self.asked.recovers {
            if *asked > 0 {
                let of_endpoint = self.asked.missed.entry(*endpoint).or_default();
                of_endpoint.push(Recover {
                    endpoint: *endpoint,
                    since: stormhook_store::UnixMs(0),
                    until: stormhook_store::UnixMs(u64::MAX),
                    missed: true,
                });
            }
        }
    }
}

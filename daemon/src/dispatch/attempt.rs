//! One attempt from claim to outcome: prepare the body and its signatures, send, judge, hand the outcome to the writer.

use super::{Dispatch, DispatchError, Phase, Tuning};
use crate::body::{self, AttemptHead, Partner};
use crate::breaker;
use crate::clock::{self, Moment};
use crate::deliver::{AttemptRequest, Attempted};
use crate::outcome::{self, Effect, Failure, OurTrouble, Reply};
use crate::retry::{self, FailedAttempt, Next};
use crate::schedule::Claim;
use crate::writer::{SubmitError, random_u128};
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::{
    Attempt, Delivery, DeliveryId, Disable, Endpoint, EndpointId, Event, EventId, NewEvent, Op,
    Settle, Trigger, UnixMs, Verdict,
};

/// The type of a test delivery.
const PING: &str = "stormhook.ping";
/// The type of the event that says an endpoint was switched off.
const DISABLED: &str = "stormhook.endpoint.disabled";

/// What is to be sent, and how many attempts there were.
struct Prepared {
    event: Arc<Event>,
    endpoint: Arc<Endpoint>,
    finished: u32,
    total: u32,
}

/// Which attempt it is.
#[derive(Clone, Copy)]
struct Head {
    delivery: DeliveryId,
    sequence: u64,
    attempt: u32,
}

/// Why a claim is not attempted after all.
enum Drop {
    /// Its endpoint was switched off since: it waits as it did.
    Back,
    /// It has ended, or there is no such delivery.
    Over,
    /// It was ended with all that waited for its endpoint: its row is still to be written out.
    Covered,
    /// We lacked something for the request: its endpoint's deliveries wait for a while.
    OurTrouble(String),
    /// What is stored of it can't be read: that is the attempt's outcome.
    Unreadable(String),
}

/// When an attempt started.
struct Started {
    at: UnixMs,
    moment: Moment,
}

impl Started {
    fn now() -> Self {
        Self {
            at: clock::wall(),
            moment: Moment::now(),
        }
    }

    /// The attempt as it is recorded; its number and round are given by the store.
    fn ended(&self, trigger: Trigger, verdict: &outcome::Verdict) -> (Attempt, Duration) {
        let took = self.moment.elapsed();
        let attempt = Attempt {
            number: 0,
            round: 0,
            trigger,
            started_at: self.at,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome: verdict.outcome,
            response_code: verdict.response_code,
            response_excerpt: (!verdict.excerpt.is_empty()).then(|| verdict.excerpt.clone()),
            error: verdict.error.clone(),
        };
        (attempt, took)
    }
}

impl Dispatch {
    pub(super) async fn attempt(self: Arc<Self>, claim: Claim) {
        let started = Started::now();
        let (reply, prepared) = match self.prepare_and_send(&claim).await {
            Ok((reply, prepared)) => (reply, Some(prepared)),
            Err(Drop::Unreadable(why)) => (Reply::Failed(Failure::Protocol, why), None),
            Err(drop) => {
                self.give_back(&claim, &drop);
                return;
            }
        };
        let id = claim.waiting.id;
        let tuning = self.tuning();
        let verdict = match outcome::judge(reply, tuning.config.limits.excerpt_bytes) {
            Ok(verdict) => verdict,
            Err(OurTrouble(what)) => {
                self.give_back(&claim, &Drop::OurTrouble(what));
                return;
            }
        };
        let (attempt, took) = started.ended(claim.waiting.trigger, &verdict);
        let ended_at = self.clock.now();
        let finished = prepared.as_ref().map_or(0, |p| p.finished);
        tracing::debug!(delivery = %id, outcome = attempt.outcome.as_str(), code = attempt.response_code,
            duration_ms = attempt.duration_ms, "attempt");
        let settle = Settle {
            delivery: id,
            attempt,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ended_at,
            verdict: follow(&tuning, &verdict, finished, ended_at),
            disable: prepared.and_then(|p| disable(&tuning, &p.endpoint, &verdict)),
        };
        // The outcome queues before its place on the wire is given away, so that commits see attempts in order.
        self.writer.post(Op::Settle(Box::new(settle)));
        let mut inner = self.inner();
        inner
            .schedule
            .answered(id, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if let Some(held_back) = inner.lacking.is_over(ended_at) {
            tracing::info!(held_back, "nothing is lacking for attempts any more");
        }
        self.pump(&mut inner);
    }

    /// Sends what is claimed, by the settings that its endpoint has when the request is written.
    async fn prepare_and_send(&self, claim: &Claim) -> Result<(Reply, Prepared), Drop> {
        loop {
            let prepared = self.prepare(claim)?;
            let wanted = || {
                let now = self.reader.endpoint_by_slot(claim.waiting.id.slot);
                now.is_some_and(|now| Arc::ptr_eq(&now, &prepared.endpoint))
            };
            let head = Head {
                delivery: claim.waiting.id,
                sequence: claim.waiting.sequence,
                attempt: prepared.total + 1,
            };
            if let Attempted::Reply(reply) = self.send(&prepared, head, &wanted).await {
                return Ok((reply, prepared));
            }
        }
    }

    fn prepare(&self, claim: &Claim) -> Result<Prepared, Drop> {
        let id = claim.waiting.id;
        let endpoint = self.reader.endpoint_by_slot(id.slot).ok_or(Drop::Over)?;
        if !endpoint.receives() {
            return Err(Drop::Back);
        }
        if endpoint.mark_over(claim.waiting.opened).is_some() {
            return Err(Drop::Covered);
        }
        let unreadable =
            |e: stormhook_store::StoreError| Drop::Unreadable(format!("the stored delivery: {e}"));
        let event = self.reader.event(id.event).map_err(unreadable)?;
        let event =
            event.ok_or_else(|| Drop::Unreadable("the stored event is missing".to_owned()))?;
        let (finished, total) = if claim.waiting.fresh {
            (0, 0)
        } else {
            let delivery: Option<Delivery> = self.reader.bare_delivery(id).map_err(unreadable)?;
            let delivery = delivery.filter(|d| d.status.is_open()).ok_or(Drop::Over)?;
            (delivery.attempts_finished, delivery.attempts_total)
        };
        Ok(Prepared {
            event,
            endpoint,
            finished,
            total,
        })
    }

    fn give_back(self: &Arc<Self>, claim: &Claim, drop: &Drop) {
        let now = self.clock.now();
        let mut inner = self.inner();
        inner.unsettled = inner.unsettled.saturating_sub(1);
        inner.schedule.not_sent(claim.waiting.id);
        match drop {
            // Among what waits, one that a mark covers goes aside and is written out.
            Drop::Back | Drop::Covered => inner.schedule.waiting(&claim.waiting),
            Drop::OurTrouble(what) => {
                inner.schedule.set_back(&claim.waiting, now);
                if inner.lacking.holds_back(now) {
                    tracing::warn!(
                        what,
                        "attempts wait for what the daemon lacks: none of them is recorded"
                    );
                }
            }
            Drop::Over | Drop::Unreadable(_) => inner.schedule.ended(claim.waiting.id),
        }
        self.pump(&mut inner);
        std::mem::drop(inner);
        self.chores.notify_one();
        self.settled.notify_waiters();
    }

    async fn send(
        &self,
        prepared: &Prepared,
        head: Head,
        still_wanted: &(dyn Fn() -> bool + Send + Sync),
    ) -> Attempted {
        let failed = |failure, why: String| Attempted::Reply(Reply::Failed(failure, why));
        let Some(body) = body::render(&prepared.event, head.sequence) else {
            let why = "the event's data is past its retention".to_owned();
            return failed(Failure::Protocol, why);
        };
        let partner = self.partner(&prepared.endpoint);
        let target = match partner.target() {
            Ok(target) => target,
            Err(e) => return failed(Failure::TargetRefused, e.to_string()),
        };
        let head = AttemptHead {
            event: &prepared.event,
            delivery: head.delivery,
            sequence: head.sequence,
            attempt: head.attempt,
        };
        let request = AttemptRequest {
            target,
            headers: partner.headers(head, &body, clock::wall()),
            body,
            still_wanted,
        };
        let client = self.client();
        let mut phase = self.phase.subscribe();
        tokio::select! {
            biased;
            attempted = client.attempt(request) => attempted,
            _ = phase.wait_for(|phase| *phase == Phase::Cut) => {
                failed(Failure::Interrupted, "the daemon stopped while the attempt was on the wire".to_owned())
            }
        }
    }

    fn partner(&self, endpoint: &Arc<Endpoint>) -> Arc<Partner> {
        let now = self.clock.now();
        self.partners.of(endpoint, now, || {
            let tuning = self.tuning();
            let header = tuning.signature_header.clone();
            Partner::new(endpoint, &tuning.settings.policy, header, now)
        })
    }

    /// Sends a test delivery now, which is stored and counted nowhere. `None` where there is no such endpoint.
    ///
    /// # Errors
    /// The daemon is stopping, or lacks something for a request.
    pub async fn ping(&self, id: EndpointId) -> Result<Option<Attempt>, DispatchError> {
        if *self.phase.borrow() != Phase::Running {
            return Err(SubmitError::ShuttingDown.into());
        }
        let Some(endpoint) = self.reader.endpoint(id) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let event = Arc::new(Event {
            id: EventId::following(EventId(0), now, random_u128()),
            organization: endpoint.organization.clone(),
            event_type: PING.to_owned(),
            timestamp: now.into(),
            timestamp_text: None,
            idempotency_key: None,
            deliveries: 1,
            data: Some(
                serde_json::json!({"endpointId": id.to_string()})
                    .to_string()
                    .into_bytes(),
            ),
        });
        let delivery = DeliveryId {
            event: event.id,
            slot: endpoint.slot,
        };
        let prepared = Prepared {
            event,
            endpoint,
            finished: 0,
            total: 0,
        };
        let started = Started::now();
        let head = Head {
            delivery,
            sequence: 0,
            attempt: 1,
        };
        let reply = match self.send(&prepared, head, &|| true).await {
            Attempted::Reply(reply) => reply,
            Attempted::NotSent => return Ok(None),
        };
        let verdict = outcome::judge(reply, self.tuning().config.limits.excerpt_bytes);
        let verdict = verdict.map_err(|OurTrouble(what)| DispatchError::OurTrouble(what))?;
        let (attempt, _) = started.ended(Trigger::Manual, &verdict);
        Ok(Some(Attempt {
            number: 1,
            round: 1,
            ..attempt
        }))
    }
}

/// When this outcome switches the endpoint off, and the event that says so.
fn disable(tuning: &Tuning, endpoint: &Endpoint, verdict: &outcome::Verdict) -> Option<Disable> {
    if !matches!(verdict.effect, Effect::Failed | Effect::Gone) {
        return None;
    }
    let disable_after = tuning.config.breaker.disable_after;
    let (reason, when) = breaker::judge(verdict.response_code, disable_after);
    let data = serde_json::json!({"endpointId": endpoint.id.to_string(), "disabledReason": reason.as_str()});
    Some(Disable {
        when,
        reason: reason.as_str().to_owned(),
        notice: NewEvent {
            organization: endpoint.organization.clone(),
            event_type: DISABLED.to_owned(),
            timestamp: None,
            idempotency_key: None,
            data: data.to_string().into_bytes(),
        },
    })
}

/// What follows from an outcome, by the schedule.
fn follow(tuning: &Tuning, verdict: &outcome::Verdict, finished: u32, ended_at: UnixMs) -> Verdict {
    match verdict.effect {
        Effect::Delivered => Verdict::Success,
        Effect::Gone => Verdict::Gone,
        Effect::Uncounted => Verdict::Interrupted,
        Effect::Failed => {
            let failed = FailedAttempt {
                attempt: finished.saturating_add(1),
                ended_ms: ended_at.0,
                status: verdict.response_code,
                retry_after: verdict.retry_after.as_deref(),
            };
            match retry::next(&tuning.config.retry, failed, draw()) {
                Next::At(at) => Verdict::RetryAt(UnixMs(at)),
                Next::GiveUp => Verdict::GiveUp,
            }
        }
    }
}

/// A number from 0 up to but not including 1, in steps of 2⁻³².
fn draw() -> f64 {
    let bits = u32::try_from(random_u128() & u128::from(u32::MAX)).unwrap_or(0);
    f64::from(bits) / 4_294_967_296.0
}

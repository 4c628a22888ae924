//! One attempt from claim to outcome: prepare the body and its signatures, send, judge, hand the outcome to the writer.

use super::{Dispatch, DispatchError, PARTNERS, Phase, Tuning};
use crate::body::{self, AttemptHead, Partner};
use crate::breaker::{self, Run};
use crate::clock::{self, Moment};
use crate::deliver::AttemptRequest;
use crate::outcome::{self, Effect, Failure, Reply};
use crate::retry::{self, FailedAttempt, Next};
use crate::schedule::Claim;
use crate::target::TargetError;
use crate::writer::{SubmitError, random_u128};
use std::sync::Arc;
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

/// Why a claim is not attempted after all.
enum Drop {
    /// Its endpoint was switched off since: it waits as it did.
    Back,
    /// It has ended, or there is no such delivery.
    Over,
    /// What is stored of it can't be read: that is the attempt's outcome.
    Unreadable(String),
}

impl Dispatch {
    pub(super) async fn attempt(self: Arc<Self>, claim: Claim) {
        let id = claim.waiting.id;
        let started_at = clock::wall();
        let started = Moment::now();
        let (reply, prepared) = match self.prepare(&claim) {
            Ok(prepared) => {
                let reply = self
                    .send(
                        &prepared,
                        claim.waiting.id,
                        claim.waiting.sequence,
                        prepared.total + 1,
                    )
                    .await;
                (reply, Some(prepared))
            }
            Err(Drop::Unreadable(why)) => (Reply::Failed(Failure::Protocol, why), None),
            Err(drop) => {
                self.give_back(&claim, &drop);
                return;
            }
        };
        let took = started.elapsed();
        let attempt = |verdict: &outcome::Verdict| Attempt {
            number: 0,
            round: 0,
            trigger: claim.waiting.trigger,
            started_at,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome: verdict.outcome,
            response_code: verdict.response_code,
            response_excerpt: (!verdict.excerpt.is_empty()).then(|| verdict.excerpt.clone()),
            error: verdict.error.clone(),
        };
        let tuning = self.tuning();
        let verdict = outcome::judge(reply, tuning.config.limits.excerpt_bytes);
        let ended_at = self.clock.now();
        let finished = prepared.as_ref().map_or(0, |p| p.finished);
        let settle = Settle {
            delivery: id,
            attempt: attempt(&verdict),
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ended_at,
            verdict: follow(&tuning, &verdict, finished, ended_at),
            disable: prepared.and_then(|p| self.disable(&tuning, &p.endpoint, &verdict, ended_at)),
        };
        tracing::debug!(delivery = %id, outcome = settle.attempt.outcome.as_str(), code = settle.attempt.response_code,
            duration_ms = settle.attempt.duration_ms, "attempt");
        // The outcome queues before its place on the wire is given away, so that commits see attempts in order.
        self.writer.post(Op::Settle(Box::new(settle)));
        let mut inner = self.inner();
        inner
            .schedule
            .answered(id, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.pump(&mut inner);
    }

    fn prepare(&self, claim: &Claim) -> Result<Prepared, Drop> {
        let id = claim.waiting.id;
        let endpoint = self.reader.endpoint_by_slot(id.slot).ok_or(Drop::Over)?;
        // None starts after the answer to whoever switched it off: looked at here, right before the request.
        if !endpoint.receives() {
            return Err(Drop::Back);
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
        let mut inner = self.inner();
        inner.unsettled = inner.unsettled.saturating_sub(1);
        inner.schedule.answered(claim.waiting.id, 0);
        match drop {
            Drop::Back => inner.schedule.waiting(&claim.waiting),
            Drop::Over | Drop::Unreadable(_) => inner.schedule.ended(claim.waiting.id),
        }
        self.pump(&mut inner);
        std::mem::drop(inner);
        self.settled.notify_waiters();
    }

    async fn send(
        &self,
        prepared: &Prepared,
        id: DeliveryId,
        sequence: u64,
        attempt: u32,
    ) -> Reply {
        let Some(body) = body::render(&prepared.event, sequence) else {
            return Reply::Failed(
                Failure::Protocol,
                "the event's data is past its retention".to_owned(),
            );
        };
        let partner = self.partner(&prepared.endpoint);
        let target = match partner.target() {
            Ok(target) => target,
            Err(TargetError::Refused(refusal)) => {
                return Reply::Failed(Failure::TargetRefused, refusal.to_string());
            }
            Err(e @ TargetError::NotAUrl(_)) => {
                return Reply::Failed(Failure::TargetRefused, e.to_string());
            }
        };
        let head = AttemptHead {
            event: &prepared.event,
            delivery: id,
            sequence,
            attempt,
        };
        let headers = partner.headers(head, &body, clock::wall());
        let client = self.client();
        let request = AttemptRequest {
            target,
            headers,
            body,
        };
        let mut phase = self.phase.subscribe();
        tokio::select! {
            biased;
            reply = client.attempt(request) => reply,
            _ = phase.wait_for(|phase| *phase == Phase::Cut) => {
                Reply::Failed(Failure::Interrupted, "the daemon stopped while the attempt was on the wire".to_owned())
            }
        }
    }

    fn partner(&self, endpoint: &Endpoint) -> Arc<Partner> {
        let now = self.clock.now();
        let mut partners = self.partners();
        if let Some(partner) = partners.get(&endpoint.slot)
            && partner.until().is_none_or(|until| now < until)
        {
            return Arc::clone(partner);
        }
        let tuning = self.tuning();
        let partner = Arc::new(Partner::new(
            endpoint,
            &tuning.settings.policy,
            tuning.signature_header.clone(),
            now,
        ));
        if partners.len() >= PARTNERS {
            partners.clear();
        }
        partners.insert(endpoint.slot, Arc::clone(&partner));
        partner
    }

    /// Whether this outcome switches the endpoint off, and the event that says so.
    fn disable(
        &self,
        tuning: &Tuning,
        endpoint: &Endpoint,
        verdict: &outcome::Verdict,
        now: UnixMs,
    ) -> Option<Disable> {
        if !matches!(verdict.effect, Effect::Failed | Effect::Gone) {
            return None;
        }
        let state = self.reader.state(endpoint.slot);
        let run = Run {
            failing_since_ms: state.failing_since.map(|at| at.0),
            failure_count: u64::from(state.failure_count) + 1,
            status: verdict.response_code,
        };
        let reason = breaker::judge(run, tuning.config.breaker.disable_after, now.0)?;
        let data = serde_json::json!({"endpointId": endpoint.id.to_string(), "disabledReason": reason.as_str()});
        Some(Disable {
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

    /// Sends a test delivery now, which is stored and counted nowhere. `None` where there is no such endpoint.
    ///
    /// # Errors
    /// The daemon is stopping.
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
            timestamp_given: false,
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
        let started_at = clock::wall();
        let started = Moment::now();
        let reply = self.send(&prepared, delivery, 0, 1).await;
        let verdict = outcome::judge(reply, self.tuning().config.limits.excerpt_bytes);
        Ok(Some(Attempt {
            number: 1,
            round: 1,
            trigger: Trigger::Manual,
            started_at,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome: verdict.outcome,
            response_code: verdict.response_code,
            response_excerpt: (!verdict.excerpt.is_empty()).then_some(verdict.excerpt),
            error: verdict.error,
        }))
    }
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

//! One attempt from claim to outcome: prepare the body and its signatures, send, judge, hand the outcome to the writer.

use super::unsent::Unsent;
use super::{Dispatch, PingError};
use crate::breaker;
use crate::clock::Moment;
use crate::lifecycle::Phase;
use crate::outcome::{self, Effect, Failure, OurTrouble, Reply};
use crate::payload::{self, AttemptHead, Partner};
use crate::retry::{self, FailedAttempt, Next};
use crate::schedule::Claim;
use crate::settings::Settings;
use crate::transport::{AttemptRequest, Attempted};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stormhook_store::{
    Attempt, DeliveryId, Disable, Endpoint, EndpointId, Event, EventId, NewEvent, NextStep, Settle,
    Trigger, UnixMs,
};

/// The type of a test delivery.
const PING: &str = "stormhook.ping";
/// The type of the event that reports a disabled endpoint.
const DISABLED: &str = "stormhook.endpoint.disabled";

/// What will be sent, and how many attempts there have been.
struct Prepared {
    event: Arc<Event>,
    body: Bytes,
    endpoint: Arc<Endpoint>,
    finished: u32,
    total: u32,
    /// Whether the request was sent more than once.
    reconnected: bool,
}

/// Identifies the attempt.
#[derive(Clone, Copy)]
struct Head {
    delivery: DeliveryId,
    sequence: u64,
    attempt: u32,
}

/// When an attempt started.
struct Started {
    at: UnixMs,
    moment: Moment,
}

impl Started {
    fn at(wall: UnixMs) -> Self {
        Self {
            at: wall,
            moment: Moment::now(),
        }
    }

    /// Returns the attempt as it is recorded, and its duration. The store assigns its number and round.
    fn ended(&self, trigger: Trigger, verdict: &outcome::Judgement) -> (Attempt, Duration) {
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
            reconnected: false,
        };
        (attempt, took)
    }
}

impl Dispatch {
    pub(super) async fn attempt(self: Arc<Self>, claim: Claim) {
        let started = Started::at(self.environment().wall());
        let id = claim.waiting.id;
        let settings = self.settings();
        let sent = self.prepare_and_send(&claim).await;
        let judged = sent.and_then(|(reply, prepared)| {
            let verdict = outcome::judge(reply);
            let verdict = verdict.map_err(|OurTrouble(what)| Unsent::Lacking(what))?;
            Ok((verdict, prepared))
        });
        let (verdict, prepared) = match judged {
            Ok(judged) => judged,
            Err(unsent) => return self.give_back(&claim, unsent).await,
        };
        let (mut attempt, took) = started.ended(claim.waiting.trigger, &verdict);
        attempt.reconnected = prepared.reconnected;
        let ended_at = self.clock.now();
        tracing::debug!(delivery = %id, outcome = attempt.outcome.as_str(), code = attempt.response_code,
            duration_ms = attempt.duration_ms, "attempt");
        let settle = Settle {
            delivery: id,
            attempt,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ended_at,
            next_step: follow(&settings, &verdict, prepared.finished, ended_at, || {
                draw(self.environment().random_u128())
            }),
            disable: disable(&settings, &prepared.endpoint, &verdict),
        };
        if self.attempts.receiver_count() > 0 {
            let event_type = prepared.event.event_type.clone();
            self.inner().followed.insert(id, event_type);
        }
        // The outcome is queued before its place on the wire is freed, so that commits see attempts in order.
        self.writer.post(Box::new(settle));
        let mut inner = self.inner();
        inner
            .schedule
            .answered(id, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if let Some(held_back) = inner.lacking.is_over(ended_at) {
            tracing::info!(held_back, "attempts no longer lack resources");
        }
        if let Some(held_back) = inner.unreadable.is_over(ended_at) {
            tracing::info!(held_back, "deliveries can be read again");
        }
        self.pump(&mut inner);
    }

    /// Sends the claimed delivery, with the settings that its endpoint has when the request is written.
    async fn prepare_and_send(&self, claim: &Claim) -> Result<(Reply, Prepared), Unsent> {
        loop {
            let prepared = self.prepare(claim).await?;
            let wanted = || {
                let now = self.reader.endpoint_by_slot(claim.waiting.id.slot);
                self.reader.may_start()
                    && !self.is_purged(&prepared.endpoint, claim.waiting.id)
                    && now.is_some_and(|now| Arc::ptr_eq(&now, &prepared.endpoint))
            };
            let head = Head {
                delivery: claim.waiting.id,
                sequence: claim.waiting.sequence,
                attempt: prepared.total + 1,
            };
            if let Attempted::Reply { reply, reconnected } =
                self.send(&prepared, head, &wanted).await
            {
                let prepared = Prepared {
                    reconnected,
                    ..prepared
                };
                return Ok((reply, prepared));
            }
            if self.life.phase() >= Phase::Cut || !self.reader.may_start() {
                return Err(Unsent::Back);
            }
        }
    }

    async fn prepare(&self, claim: &Claim) -> Result<Prepared, Unsent> {
        let waiting = &claim.waiting;
        let id = waiting.id;
        let endpoint = self.reader.endpoint_by_slot(id.slot);
        let endpoint = endpoint.ok_or(Unsent::Over)?;
        if !endpoint.receives() {
            return Err(Unsent::Back);
        }
        let missing = |what: &str| Unsent::Damaged(format!("{what} is missing"));
        // A bulk change may have ended it.
        let (finished, total) = if waiting.fresh && !self.reader.bulk_waits_for(id.slot) {
            (0, 0)
        } else {
            let delivery = self.reader.bare_delivery(id).await?;
            let delivery = delivery.ok_or_else(|| missing("its row"))?;
            if !delivery.status.is_open() {
                return Err(Unsent::Over);
            }
            (delivery.attempts_finished, delivery.attempts_total)
        };
        if self.is_purged(&endpoint, id) {
            return Err(Unsent::Over);
        }
        let event = self.reader.event(id.event).await?;
        let event = event.ok_or_else(|| missing("its event"))?;
        // Open deliveries keep their event's data, even past retention.
        let body = payload::render(&event, waiting.sequence);
        let body = body.ok_or_else(|| missing("its event's data"))?;
        Ok(Prepared {
            event,
            body,
            endpoint,
            finished,
            total,
            reconnected: false,
        })
    }

    /// Whether a purge in progress ends the delivery.
    fn is_purged(&self, endpoint: &Endpoint, id: DeliveryId) -> bool {
        let purges = self.reader.purges();
        purges.effect_on(&endpoint.organization, id.event).is_some()
    }

    async fn send(
        &self,
        prepared: &Prepared,
        head: Head,
        still_wanted: &(dyn Fn() -> bool + Send + Sync),
    ) -> Attempted {
        let failed = |failure, why: String| Attempted::from(Reply::Failed(failure, why));
        let partner = self.partner(&prepared.endpoint);
        let destination = match partner.destination() {
            Ok(destination) => destination,
            Err(why) => return failed(Failure::TargetRefused, why.to_owned()),
        };
        let head = AttemptHead {
            event: &prepared.event,
            delivery: head.delivery,
            sequence: head.sequence,
            attempt: head.attempt,
        };
        let written = AtomicBool::new(false);
        let still_wanted = || {
            let wanted = still_wanted();
            written.fetch_or(wanted, Ordering::Relaxed);
            wanted
        };
        let request = AttemptRequest {
            headers: partner.headers(head, &prepared.body, self.environment().wall()),
            body: prepared.body.clone(),
            excerpt_bytes: self.settings().excerpt_bytes,
            still_wanted: &still_wanted,
        };
        tokio::select! {
            biased;
            attempted = destination.attempt(request) => attempted,
            () = self.life.reached(Phase::Cut) => {
                if written.load(Ordering::Relaxed) {
                    failed(Failure::Interrupted, "the daemon stopped while the attempt was on the wire".to_owned())
                } else {
                    Attempted::NotSent
                }
            }
        }
    }

    fn partner(&self, endpoint: &Arc<Endpoint>) -> Arc<Partner> {
        let now = self.clock.paced();
        self.partners.of(endpoint, now, || {
            let header = self.settings().signature_header.clone();
            Partner::new(endpoint, &*self.transport, header, now)
        })
    }

    /// Sends a test delivery now. It is neither stored nor counted.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping(&self, id: EndpointId) -> Result<Attempt, PingError> {
        if self.life.is_stopping() {
            return Err(PingError::ShuttingDown);
        }
        let endpoint = self.reader.endpoint(id).ok_or(PingError::NotFound)?;
        let now = self.clock.now();
        let event = Arc::new(Event {
            id: EventId::following(EventId(0), now, self.environment().random_u128()),
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
        // The event was given data above.
        let body = payload::render(&event, 0).unwrap_or_default();
        let prepared = Prepared {
            event,
            body,
            endpoint,
            finished: 0,
            total: 0,
            reconnected: false,
        };
        let started = Started::at(self.environment().wall());
        let head = Head {
            delivery,
            sequence: 0,
            attempt: 1,
        };
        let (reply, reconnected) = match self.send(&prepared, head, &|| true).await {
            Attempted::Reply { reply, reconnected } => (reply, reconnected),
            // The caller never withdraws it, so only the stopping daemon can.
            Attempted::NotSent => return Err(PingError::ShuttingDown),
        };
        let verdict = outcome::judge(reply);
        let verdict = verdict.map_err(|OurTrouble(what)| PingError::OurTrouble(what))?;
        let (attempt, _) = started.ended(Trigger::Manual, &verdict);
        Ok(Attempt {
            number: 1,
            round: 1,
            reconnected,
            ..attempt
        })
    }
}

/// Returns when this outcome disables the endpoint, and the event that reports it.
fn disable(
    settings: &Settings,
    endpoint: &Endpoint,
    verdict: &outcome::Judgement,
) -> Option<Disable> {
    if !matches!(verdict.effect, Effect::Failed | Effect::Gone) {
        return None;
    }
    let disable_after = settings.disable_after;
    let (reason, when) = breaker::judge(verdict.effect, disable_after);
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

/// Decides the next step after an outcome, by the schedule; `draw` returns the random number for the jitter.
fn follow(
    settings: &Settings,
    verdict: &outcome::Judgement,
    finished: u32,
    ended_at: UnixMs,
    draw: impl FnOnce() -> f64,
) -> NextStep {
    match verdict.effect {
        Effect::Delivered => NextStep::Success,
        Effect::Gone => NextStep::Gone,
        Effect::Uncounted => NextStep::Interrupted,
        Effect::Failed => {
            let failed = FailedAttempt {
                attempt: finished.saturating_add(1),
                ended_ms: ended_at.0,
                retry_after: verdict.retry_after.as_deref(),
            };
            match retry::next(&settings.retry, failed, draw()) {
                Next::At(at) => NextStep::RetryAt(UnixMs(at)),
                Next::GiveUp => NextStep::GiveUp,
            }
        }
    }
}

/// Converts random bits to a number in 0..1 in steps of 2⁻³².
fn draw(random: u128) -> f64 {
    let bits = u32::try_from(random & u128::from(u32::MAX)).unwrap_or(0);
    f64::from(bits) / 4_294_967_296.0
}

//! What receivers see: which requests may reach them, and what was answered.

use super::{Oracle, Request, Told};
use http::HeaderMap;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormhook_engine::outcome::{Failure, Reply};
use stormhook_engine::transport::Attempted;
use stormhook_store::endpoint::Ordering;
use stormhook_store::{AttemptOutcome, DeliveryId, UnixMs};

/// After a change of an endpoint's ordering or rate limit, requests that were claimed before may arrive for this long.
pub(super) const SETTLES_MS: u64 = 60_000;
/// The longest that connecting to a receiver takes.
const CONNECTING_MS: u64 = 4_000;
/// How many past requests to an endpoint are considered.
const PACED: usize = 256;

/// A request's headers, as its receiver reads them.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    delivery: DeliveryId,
    number: u32,
    sequence: u64,
    endpoint: String,
    ping: bool,
}

impl Observed {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let number = |name: &str| text(name).parse().unwrap_or(0);
        Self {
            delivery: DeliveryId::parse(&text("x-stormcom-delivery")).expect("a delivery's id"),
            number: u32::try_from(number("x-stormcom-attempt")).unwrap(),
            sequence: number("x-stormcom-sequence"),
            endpoint: text("x-stormcom-endpoint"),
            ping: text("x-stormcom-event") == "stormhook.ping",
        }
    }
}

/// An attempt from its claim to its answer.
pub(crate) struct Flight {
    oracle: Arc<Mutex<Oracle>>,
    saw: Observed,
    arrived: bool,
    answered: bool,
    life: u64,
}

impl Flight {
    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.oracle().now_ms()
    }

    /// The receiver has read the request. Nothing arrives from a process that has ended.
    pub(crate) async fn arrived(&mut self, body: &[u8]) {
        if self.oracle().dead {
            std::future::pending::<()>().await;
        }
        self.arrived = true;
        if !self.saw.ping {
            self.oracle().requested(&self.saw, body);
        }
    }

    /// The daemon lacked a resource before the receiver could see anything: no attempt is reported.
    pub(crate) fn lacked(self, what: &str) -> Attempted {
        self.oracle()
            .note(format!("{} waits: {what}", self.saw.delivery));
        Attempted::from(Reply::OurTrouble(what.to_owned()))
    }

    pub(crate) fn answered(mut self, reply: Reply) -> Attempted {
        self.answered = true;
        if !self.saw.ping {
            self.oracle().answered(&self.saw, &reply);
        }
        Attempted::from(reply)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut oracle = self.oracle();
        if oracle.lives == self.life {
            oracle.left_wire(&self.saw, self.arrived);
            if !self.answered && !self.arrived {
                oracle.flying.remove(&self.saw.delivery);
            }
        }
    }
}

/// No period had more requests than the rate and one second's burst allow, with a tolerance for connecting.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn within_rate(times: &mut VecDeque<u64>, rate: f64, now_ms: u64) -> Result<(), String> {
    times.push_back(now_ms);
    if times.len() > PACED {
        times.pop_front();
    }
    for (count, at_ms) in times.iter().rev().enumerate() {
        let stretch_s = (now_ms - at_ms + CONNECTING_MS) as f64 / 1_000.0;
        if (count + 1) as f64 > rate.max(1.0) + rate * stretch_s + 1.0 {
            let count = count + 1;
            return Err(format!(
                "{count} requests in {stretch_s} s at {rate} a second"
            ));
        }
    }
    Ok(())
}

impl Oracle {
    /// An attempt takes its place on the wire.
    pub(crate) fn started(this: &Arc<Mutex<Self>>, saw: Observed) -> Flight {
        let mut oracle = this.lock().unwrap_or_else(PoisonError::into_inner);
        let life = oracle.lives;
        if !saw.ping {
            oracle.flying.insert(saw.delivery);
            let limits = oracle.plan.settings.in_flight;
            let (most, most_per_endpoint) = (limits.max_in_flight, limits.max_per_endpoint);
            let of_endpoint = oracle.on_wire.entry(saw.endpoint.clone()).or_default();
            *of_endpoint += 1;
            let of_endpoint = *of_endpoint;
            let all: usize = oracle.on_wire.values().sum();
            if of_endpoint > most_per_endpoint || all > most {
                let endpoint = &saw.endpoint;
                let what = format!("{all} attempts on the wire, {of_endpoint} to {endpoint}");
                oracle.violated(what);
            }
        }
        drop(oracle);
        Flight {
            oracle: Arc::clone(this),
            saw,
            arrived: false,
            answered: false,
            life,
        }
    }

    fn left_wire(&mut self, saw: &Observed, arrived: bool) {
        if saw.ping {
            return;
        }
        if let Some(count) = self.on_wire.get_mut(&saw.endpoint) {
            *count -= 1;
        }
        if arrived && self.under_way.get(&saw.delivery) == Some(&saw.number) {
            self.under_way.remove(&saw.delivery);
        }
    }

    fn requested(&mut self, saw: &Observed, body: &[u8]) {
        let id = saw.delivery;
        self.note(format!("request {id} #{}", saw.number));
        self.tally.requests += 1;
        if let Err(why) = self.may_request(saw, body) {
            self.violated(format!("request {id} attempt {}: {why}", saw.number));
        }
        let life = self.lives;
        let number = saw.number;
        self.under_way.insert(id, number);
        // Answers to a process that was killed before it could record them don't count.
        self.told.remove(&(id, number));
        let requests = self.requests.entry(id).or_default();
        requests.push(Request { number, life });
    }

    /// Checks that the body is that of the accepted event.
    fn has_body(&self, saw: &Observed, body: &[u8]) -> Result<(), String> {
        let event = self.events.get(&saw.delivery.event);
        let event = event.ok_or("unknown event")?;
        let data = event.data.as_deref().unwrap_or_default();
        let ends = [b"\"data\":", data, b"}"].concat();
        if body.ends_with(&ends) {
            return Ok(());
        }
        Err("the body is not that of the event".into())
    }

    fn may_request(&mut self, saw: &Observed, body: &[u8]) -> Result<(), String> {
        let id = saw.delivery;
        if self.is_touched(id) {
            return self.has_body(saw, body);
        }
        let now_ms = self.now_ms();
        let store_ms = self.store_ms();
        let d = self.deliveries.get(&id).ok_or("unknown delivery")?;
        let endpoint = self.endpoints.get(&id.slot).ok_or("unknown endpoint")?;
        if !d.status.is_open() {
            return Err(format!("it is already {}", d.status.as_str()));
        }
        if !endpoint.receives() {
            return Err("its endpoint is disabled, and its operator has the answer".into());
        }
        if self.under_way.contains_key(&id) {
            return Err("another attempt of it is on the wire".into());
        }
        if saw.number != d.attempts_total + 1 {
            return Err(format!("{} are recorded", d.attempts_total));
        }
        if saw.sequence != d.sequence {
            return Err(format!(
                "its sequence is {}, but {} was sent",
                d.sequence, saw.sequence
            ));
        }
        if d.due.is_none_or(|due| due > UnixMs(store_ms)) {
            return Err(format!("it is due at {:?}, but it is {store_ms}", d.due));
        }
        if let Some(waits) = self.waits.get(&id)
            && !d.extra
        {
            let passed = now_ms - waits.since_ms + (self.jumped_ms - waits.jumped_ms);
            if passed < waits.delay_ms {
                return Err(format!(
                    "only {passed} of {} ms have passed",
                    waits.delay_ms
                ));
            }
        }
        self.has_body(saw, body)?;
        let mut hash = DefaultHasher::new();
        body.hash(&mut hash);
        if *self.bodies.entry(id).or_insert(hash.finish()) != hash.finish() {
            return Err("the body differs from the first attempt's".into());
        }
        if endpoint.ordering == Ordering::Fifo && d.round == 1 {
            self.in_order(id, d.sequence, now_ms)?;
        }
        if let Some(rate) = endpoint.rate_limit_per_second {
            let (from_ms, times) = self.paced.entry(id.slot).or_default();
            if now_ms >= *from_ms {
                within_rate(times, rate, now_ms)?;
            }
        }
        let again = self.requests.get(&id).into_iter().flatten();
        let mut again = again.filter(|earlier| earlier.number == saw.number);
        if again
            .clone()
            .any(|earlier| !self.killed.contains(&earlier.life))
        {
            return Err("the same attempt again, but the first was not interrupted".into());
        }
        self.tally.repeated += u64::from(again.next().is_some());
        Ok(())
    }

    /// The lowest sequence first, and the next only when that has ended.
    fn in_order(&self, id: DeliveryId, sequence: u64, now_ms: u64) -> Result<(), String> {
        let from_ms = self.fifo_from.get(&id.slot).copied().unwrap_or(0);
        if now_ms < from_ms + SETTLES_MS {
            return Ok(());
        }
        let earlier = self.deliveries.values().find(|other| {
            other.id.slot == id.slot
                && other.sequence < sequence
                && other.round == 1
                && other.status.is_open()
                && !self.is_touched(other.id)
        });
        match earlier {
            Some(other) => Err(format!(
                "{} with sequence {} is before its {sequence} and still open",
                other.id, other.sequence
            )),
            None => Ok(()),
        }
    }

    fn answered(&mut self, saw: &Observed, reply: &Reply) {
        if self.dead {
            return;
        }
        let (outcome, code, retry_after_s) = match reply {
            Reply::Status {
                code, retry_after, ..
            } => {
                let outcome = if (200..300).contains(code) {
                    AttemptOutcome::Success
                } else {
                    AttemptOutcome::HttpStatus
                };
                let text = retry_after.as_deref().map(String::from_utf8_lossy);
                (
                    outcome,
                    Some(*code),
                    text.and_then(|text| text.parse().ok()),
                )
            }
            Reply::Failed(Failure::Timeout, _) => (AttemptOutcome::Timeout, None, None),
            Reply::Failed(Failure::Connect, _) => (AttemptOutcome::Connect, None, None),
            Reply::Failed(Failure::Dns, _) => (AttemptOutcome::Dns, None, None),
            Reply::Failed(Failure::Tls, _) => (AttemptOutcome::Tls, None, None),
            Reply::Failed(_, _) => (AttemptOutcome::Protocol, None, None),
            Reply::OurTrouble(_) => return,
        };
        let number = saw.number;
        let id = saw.delivery;
        self.note(format!(
            "answered {id} #{number} {} {code:?}",
            outcome.as_str()
        ));
        let told = Told {
            outcome,
            code,
            life: self.lives,
            at_ms: self.now_ms(),
            store_ms: self.store_ms(),
            jumped_ms: self.jumped_ms,
            retry_after_s,
        };
        self.told.insert((id, number), told);
    }
}

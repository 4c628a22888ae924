//! Which requests may reach receivers: of the daemon whose lease holds, once for each attempt unless its daemon was lost,
//! and in order where order matters.

use super::commits::{endpoint, targets};
use super::{Oracle, Request};
use crate::cluster::database::tables::Tables;
use http::HeaderMap;
use stormhook_store::backend::{delivery_key, read_delivery};
use stormhook_store::endpoint::Ordering;
use stormhook_store::{Delivery, DeliveryId};
use uuid::Uuid;

/// A request's headers, as its receiver reads them, and the life of the daemon that sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    life: u64,
    delivery: DeliveryId,
    number: u32,
    sequence: u64,
}

impl Observed {
    pub(crate) fn of(life: u64, headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self {
            life,
            delivery: DeliveryId::parse(&text("x-stormcom-delivery")).expect("a delivery's id"),
            number: text("x-stormcom-attempt").parse().expect("a number"),
            sequence: text("x-stormcom-sequence").parse().expect("a number"),
        }
    }
}

/// Where a delivery is.
pub(super) enum Stored {
    Nowhere,
    /// With the attempts that are recorded.
    Open(u32),
    Done(Box<Delivery>),
}

/// Returns what the database has of a delivery.
pub(super) fn stored(tables: &Tables, id: DeliveryId, sequence: u64) -> Stored {
    let (slot, number) = (
        i32::try_from(id.slot.0).unwrap(),
        i64::try_from(sequence).unwrap(),
    );
    let event = Uuid::from_u128(id.event.0);
    let read = |record: &[u8]| read_delivery(&delivery_key(id), record).expect("a record");
    if let Some(record) = tables.done.get(&(slot, number, event)) {
        return Stored::Done(Box::new(read(record)));
    }
    if let Some(open) = tables.open.get(&(slot, number)) {
        return Stored::Open(read(&open.record).attempts_total);
    }
    // Its event may be all there is of it.
    let named = tables.events.get(&event).map(|e| targets(&e.targets));
    match named {
        Some(named) if named.contains(&(id.slot, sequence)) => Stored::Open(0),
        _ => Stored::Nowhere,
    }
}

impl Oracle {
    /// A receiver has read a request, and is done with it at `done_ms`.
    pub(crate) fn requested(
        &mut self,
        tables: &Tables,
        saw: Observed,
        now_ms: u64,
        done_ms: u64,
        accepts: bool,
    ) {
        let (id, number, life) = (saw.delivery, saw.number, saw.life);
        self.note(format!(
            "{life} sends {id} #{number} (sequence {}) at {now_ms}",
            saw.sequence
        ));
        self.tally.requests += 1;
        if let Err(why) = self.may_send(tables, saw, now_ms) {
            self.violated(format!("{life} sends {id} #{number}, but {why}"));
        }
        let request = Request {
            number,
            life,
            done_ms,
            accepts,
        };
        self.requests.entry(id).or_default().push(request);
        self.sent.entry(id.slot).or_default().insert(id);
    }

    /// The connection of a request is closed, with or without an answer.
    pub(crate) fn closed(&mut self, saw: Observed) {
        let now_ms = self.now_ms;
        let of = self.requests.get_mut(&saw.delivery).into_iter().flatten();
        for request in of.filter(|r| (r.life, r.number) == (saw.life, saw.number)) {
            request.done_ms = request.done_ms.min(now_ms);
        }
    }

    fn may_send(&mut self, tables: &Tables, saw: Observed, now_ms: u64) -> Result<(), String> {
        let life = self.life(saw.life);
        let (seat, _) = life.seat.ok_or("it has no seat")?;
        if life.is_fenced {
            return Err("others have taken over from it".to_owned());
        }
        self.within_lease(tables, seat, now_ms)?;
        match stored(tables, saw.delivery, saw.sequence) {
            Stored::Nowhere => return Err("there is no such delivery".to_owned()),
            Stored::Done(_) => return Err("it has ended".to_owned()),
            Stored::Open(recorded) if saw.number != recorded + 1 => {
                return Err(format!("{recorded} attempts are recorded"));
            }
            Stored::Open(_) => {}
        }
        let endpoint = endpoint(tables, saw.delivery.slot).ok_or("there is no such endpoint")?;
        if endpoint.ordering == Ordering::Fifo {
            self.in_order(tables, saw, now_ms)?;
        }
        let again = self.requests.get(&saw.delivery).into_iter().flatten();
        let again = again.filter(|earlier| earlier.number == saw.number);
        let again: Vec<u64> = again.map(|earlier| earlier.life).collect();
        self.tally.repeated += u64::from(!again.is_empty());
        let lost = |life: &u64| self.life(*life).is_lost();
        match again.iter().find(|life| !lost(life)) {
            Some(life) => Err(format!("{life} has sent it, and was not lost")),
            None => Ok(()),
        }
    }

    /// Less than three quarters of the lease have passed since it was renewed.
    fn within_lease(&self, tables: &Tables, seat: i16, now_ms: u64) -> Result<(), String> {
        #[allow(clippy::cast_precision_loss, reason = "runs are short")]
        let left_ms = tables.seats[&seat].lease_until_ms - now_ms as f64;
        if left_ms < self.lease_ms / 4.0 {
            return Err(format!("its lease holds for {left_ms} ms more"));
        }
        Ok(())
    }

    /// All lower sequence numbers have ended, and no other request is being handled.
    fn in_order(&self, tables: &Tables, saw: Observed, now_ms: u64) -> Result<(), String> {
        let slot = i32::try_from(saw.delivery.slot.0).unwrap();
        let sequence = i64::try_from(saw.sequence).unwrap();
        let ended = tables.done.iter();
        let ended = ended.filter(|((of, n, _), _)| *of == slot && *n < sequence);
        let ended = i64::try_from(ended.count()).unwrap();
        if ended != sequence - 1 {
            return Err(format!(
                "only {ended} before its {sequence} have ended, and its endpoint is FIFO"
            ));
        }
        let others = self.sent.get(&saw.delivery.slot).into_iter().flatten();
        let others = others.flat_map(|id| self.requests[id].iter().map(move |r| (id, r)));
        let mut under_way = others.filter(|(_, r)| r.done_ms > now_ms);
        match under_way.next() {
            Some((id, r)) => Err(format!(
                "its endpoint is FIFO and handles {id} of {} until {}",
                r.life, r.done_ms
            )),
            None => Ok(()),
        }
    }

    /// Whether a receiver has accepted a delivery.
    pub(super) fn was_accepted(&self, id: DeliveryId) -> bool {
        let requests = self.requests.get(&id).into_iter().flatten();
        requests.into_iter().any(|request| request.accepts)
    }
}

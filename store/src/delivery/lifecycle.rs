//! The state machine of a delivery: what can happen to it in which status, and what it becomes.
//!
//! Everything that changes a delivery's status is a method here, named after the event. A method that doesn't apply to
//! the current status returns [`IllegalMove`] and changes nothing.

use super::{ATTEMPTS_KEPT, Attempt, Delivery, EXCERPTS_KEPT, Reason, Status, Trigger};
use crate::ids::{DeliveryId, UnixMs};

/// An event that can't happen to a delivery in its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delivery that is {} can't be {what}", .status.as_str())]
pub struct IllegalMove {
    /// The current status.
    pub status: Status,
    /// The event.
    pub what: &'static str,
}

/// The legal transitions between statuses.
const CHANGES: [(Status, Status); 11] = [
    (Status::Pending, Status::Retrying),
    (Status::Pending, Status::Success),
    (Status::Pending, Status::Abandoned),
    (Status::Pending, Status::Failed),
    (Status::Retrying, Status::Pending),
    (Status::Retrying, Status::Success),
    (Status::Retrying, Status::Abandoned),
    (Status::Retrying, Status::Failed),
    (Status::Success, Status::Pending),
    (Status::Abandoned, Status::Pending),
    (Status::Failed, Status::Pending),
];

impl Status {
    /// Whether a delivery with this status may have `next` after one move.
    pub fn may_become(self, next: Self) -> bool {
        self == next || CHANGES.contains(&(self, next))
    }
}

impl Delivery {
    /// Returns the first round of a delivery.
    pub(crate) fn created(id: DeliveryId, sequence: u64, trigger: Trigger, at: UnixMs) -> Self {
        Self {
            id,
            sequence,
            status: Status::Pending,
            reason: None,
            round: 1,
            attempts_finished: 0,
            next_trigger: trigger,
            next_attempt_at: Some(at),
            due: Some(at),
            extra: false,
            stamp: 0,
            created_at: at,
            updated_at: at,
            attempts_total: 0,
            attempts: Vec::new(),
        }
    }

    /// Returns a delivery as acceptance makes it: nothing has happened to it since. Its event and its sequence number
    /// tell everything but the stamp.
    pub fn accepted(id: DeliveryId, sequence: u64, stamp: u64) -> Self {
        Self {
            stamp,
            ..Self::created(id, sequence, Trigger::Schedule, id.event.accepted_at())
        }
    }

    /// An attempt was answered with 2xx.
    pub(crate) fn attempt_succeeded(&mut self, attempt: Attempt, at: UnixMs) {
        self.attempt_finished(attempt, at, |d, _| d.end(Status::Success, None, at));
    }

    /// An attempt failed. `next` is when the schedule has the next one, unless it is over. After an extra attempt the
    /// schedule continues unchanged.
    pub(crate) fn attempt_failed(&mut self, attempt: Attempt, at: UnixMs, next: Option<UnixMs>) {
        self.attempt_finished(attempt, at, |d, extra| {
            let next = if extra { d.next_attempt_at } else { next };
            if next.is_none() {
                return d.end(Status::Abandoned, None, at);
            }
            d.status = Status::Retrying;
            d.next_attempt_at = next;
            d.due = next;
        });
    }

    /// An attempt was answered with 410.
    pub(crate) fn attempt_gone(&mut self, attempt: Attempt, at: UnixMs) {
        self.attempt_finished(attempt, at, |d, _| {
            d.end(Status::Failed, Some(Reason::Gone), at);
        });
    }

    /// The process stopped during an attempt. It uses up no place in the schedule, and the delivery is due as before.
    pub(crate) fn attempt_interrupted(&mut self, attempt: Attempt, at: UnixMs) {
        self.record(attempt, at);
    }

    /// An operator requested an extra attempt now, in addition to the schedule of the round.
    pub(crate) fn retried(&mut self, at: UnixMs) -> Result<(), IllegalMove> {
        self.only_open("retried")?;
        self.extra = true;
        self.next_trigger = Trigger::Manual;
        self.due = Some(at);
        self.updated_at = at;
        Ok(())
    }

    /// An operator requested a new round: the whole schedule from its start.
    pub(crate) fn reopened(&mut self, trigger: Trigger, at: UnixMs) {
        self.status = Status::Pending;
        self.reason = None;
        self.round = self.round.saturating_add(1);
        self.attempts_finished = 0;
        self.extra = false;
        self.next_trigger = trigger;
        self.next_attempt_at = Some(at);
        self.due = Some(at);
        self.updated_at = at;
    }

    /// An operator cancelled it.
    pub(crate) fn cancelled(&mut self, at: UnixMs) -> Result<(), IllegalMove> {
        self.only_open("cancelled")?;
        self.end(Status::Failed, Some(Reason::Cancelled), at);
        Ok(())
    }

    /// All open deliveries of its endpoint were ended: discarded when the endpoint was enabled, or deleted with it.
    pub(crate) fn ended_in_bulk(&mut self, reason: Reason, at: UnixMs) -> Result<(), IllegalMove> {
        self.only_open("ended in bulk")?;
        self.end(Status::Failed, Some(reason), at);
        Ok(())
    }

    /// Its stored record is damaged, so it can't be sent.
    pub(crate) fn found_damaged(&mut self, at: UnixMs) -> Result<(), IllegalMove> {
        self.only_open("ended as damaged")?;
        self.end(Status::Failed, Some(Reason::Damaged), at);
        Ok(())
    }

    /// Its event's data was purged: it can't be sent any more, and what the receiver answered is removed too.
    pub(crate) fn purged(&mut self, at: UnixMs) {
        if self.status.is_open() {
            self.end(Status::Failed, Some(Reason::Purged), at);
        } else if self.status.is_undelivered() {
            self.reason = Some(Reason::Purged);
        }
        self.forget_excerpts();
    }

    fn only_open(&self, what: &'static str) -> Result<(), IllegalMove> {
        let status = self.status;
        if status.is_open() {
            Ok(())
        } else {
            Err(IllegalMove { status, what })
        }
    }

    /// Records a finished attempt. `follow` decides what an open delivery becomes; its second argument is whether the
    /// attempt was an extra one. A delivery may end with an attempt on the wire: the attempt is recorded too, and the
    /// delivery stays ended.
    fn attempt_finished(
        &mut self,
        attempt: Attempt,
        at: UnixMs,
        follow: impl FnOnce(&mut Self, bool),
    ) {
        self.record(attempt, at);
        let extra = std::mem::take(&mut self.extra);
        if !extra {
            self.attempts_finished = self.attempts_finished.saturating_add(1);
        }
        if self.status.is_open() {
            self.next_trigger = Trigger::Schedule;
            follow(self, extra);
        }
    }

    /// Adds a finished attempt.
    fn record(&mut self, mut attempt: Attempt, ended_at: UnixMs) {
        self.attempts_total = self.attempts_total.saturating_add(1);
        attempt.number = self.attempts_total;
        attempt.round = self.round;
        if self.reason == Some(Reason::Purged) {
            attempt.response_excerpt = None;
        }
        self.attempts.push(attempt);
        if self.attempts.len() > ATTEMPTS_KEPT {
            self.attempts.remove(0);
        }
        // The excerpt is larger than everything else of an attempt.
        if let Some(old) = self.attempts.len().checked_sub(EXCERPTS_KEPT + 1)
            && let Some(attempt) = self.attempts.get_mut(old)
        {
            attempt.response_excerpt = None;
        }
        // An ended delivery keeps the time when it ended.
        if self.status.is_open() {
            self.updated_at = ended_at;
        }
    }

    fn end(&mut self, status: Status, reason: Option<Reason>, at: UnixMs) {
        self.status = status;
        self.reason = reason;
        self.next_attempt_at = None;
        self.due = None;
        self.extra = false;
        self.updated_at = at;
    }
}

#[cfg(test)]
mod tests;

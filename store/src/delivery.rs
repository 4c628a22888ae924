//! Deliveries: one event to one endpoint, with its attempts. [`lifecycle`] defines what can happen to one.

pub mod lifecycle;

use crate::ids::{DeliveryId, UnixMs};
use serde::{Deserialize, Serialize};

/// How many attempts of one delivery are kept, the newest ones. Earlier ones are still counted.
pub const ATTEMPTS_KEPT: usize = 1_000;

/// For how many of them, the newest ones, the start of the receiver's response is kept.
pub const EXCERPTS_KEPT: usize = 32;

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Stored; no attempt of this round has finished.
    Pending,
    /// Failed at least once; another attempt will follow.
    Retrying,
    /// The endpoint answered 2xx.
    Success,
    /// The last attempt of the schedule failed.
    Abandoned,
    /// Ended early, for a [`Reason`].
    Failed,
}

impl Status {
    /// Every status, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Retrying,
        Self::Success,
        Self::Abandoned,
        Self::Failed,
    ];

    /// Whether attempts will follow.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Retrying)
    }

    /// Whether it ended undelivered.
    pub fn is_undelivered(self) -> bool {
        matches!(self, Self::Abandoned | Self::Failed)
    }

    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Retrying => "RETRYING",
            Self::Success => "SUCCESS",
            Self::Abandoned => "ABANDONED",
            Self::Failed => "FAILED",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Why a delivery ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The endpoint answered 410.
    Gone,
    /// Its endpoint was deleted.
    EndpointDeleted,
    /// An operator cancelled it.
    Cancelled,
    /// It was held for an inactive endpoint and discarded.
    Discarded,
    /// Its stored record is damaged, so it can't be sent.
    Damaged,
    /// Its event's data was purged, so it can't be sent.
    Purged,
}

impl Reason {
    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
            Self::Damaged => "damaged",
            Self::Purged => "purged",
        }
    }
}

/// What triggered an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The schedule.
    #[default]
    Schedule,
    /// An operator's retry.
    Manual,
    /// An operator's replay or recovery.
    Replay,
}

impl Trigger {
    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Replay => "replay",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AttemptOutcome {
    /// The endpoint answered 2xx.
    Success,
    /// The endpoint answered with another status.
    HttpStatus,
    /// No answer within the timeout.
    Timeout,
    /// No connection.
    Connect,
    /// The name did not resolve.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// Policy forbids the address.
    TargetRefused,
    /// The answer is not valid HTTP.
    Protocol,
    /// The daemon stopped while the attempt was on the wire.
    Interrupted,
}

impl AttemptOutcome {
    /// Every outcome, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::HttpStatus,
        Self::Timeout,
        Self::Connect,
        Self::Dns,
        Self::Tls,
        Self::TargetRefused,
        Self::Protocol,
        Self::Interrupted,
    ];

    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::HttpStatus => "http_status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::TargetRefused => "target_refused",
            Self::Protocol => "protocol",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One finished attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number among all attempts of the delivery, from 1.
    pub number: u32,
    /// The round it belongs to, from 1.
    pub round: u32,
    /// What triggered it.
    pub trigger: Trigger,
    /// When it started.
    pub started_at: UnixMs,
    /// How long the request took, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The status of the response, if there was one.
    pub response_code: Option<u16>,
    /// The start of the response body of a failed attempt, unchanged.
    #[serde(with = "crate::optional_bytes")]
    pub response_excerpt: Option<Vec<u8>>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// Whether the request was sent more than once, because the connection ended or the receiver said that it had not
    /// processed the request.
    pub reconnected: bool,
}

/// A delivery with its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event and the endpoint.
    pub id: DeliveryId,
    /// Its number among its endpoint's deliveries, from 1, without gaps.
    pub sequence: u64,
    /// Its state.
    pub status: Status,
    /// Why it ended early, if it did.
    pub reason: Option<Reason>,
    /// The current round, from 1.
    pub round: u32,
    /// Scheduled attempts of this round that have finished.
    pub attempts_finished: u32,
    /// The trigger of the next attempt.
    pub next_trigger: Trigger,
    /// When the schedule has the next attempt; `None` if it has ended.
    pub next_attempt_at: Option<UnixMs>,
    /// When it is due: the schedule's time, or earlier after an operator's retry. `None` if it has ended.
    pub due: Option<UnixMs>,
    /// Whether the next attempt is an operator's extra one: if it fails, the schedule continues unchanged.
    pub extra: bool,
    /// The stamp of the last bulk change before this was written.
    pub stamp: u64,
    /// When it was created.
    pub created_at: UnixMs,
    /// When it last changed.
    pub updated_at: UnixMs,
    /// The number of all its attempts, including those no longer kept.
    pub attempts_total: u32,
    /// The attempts, oldest first, at most [`ATTEMPTS_KEPT`].
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// Returns the API's `attempt`: while pending the one in progress or to come, else the finished ones.
    pub fn attempt_shown(&self) -> u32 {
        match self.status {
            Status::Pending => self.attempts_finished.saturating_add(1),
            _ => self.attempts_finished,
        }
    }

    /// Removes what the receiver answered.
    pub fn forget_excerpts(&mut self) {
        for attempt in &mut self.attempts {
            attempt.response_excerpt = None;
        }
    }

    /// Returns what the queues need of an open delivery; `None` if it has ended.
    pub fn queue_entry(&self) -> Option<QueueEntry> {
        Some(QueueEntry {
            id: self.id,
            due: self.due?,
            sequence: self.sequence,
            retrying: self.status == Status::Retrying,
            fresh: self.attempts_total == 0
                && self.round == 1
                && self.next_trigger == Trigger::Schedule,
            later_round: self.round > 1,
            trigger: self.next_trigger,
        })
    }
}

/// One open delivery, with what the queues need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEntry {
    /// The event and the endpoint.
    pub id: DeliveryId,
    /// When it is due.
    pub due: UnixMs,
    /// Its number among its endpoint's deliveries.
    pub sequence: u64,
    /// Whether an attempt of this round has failed.
    pub retrying: bool,
    /// Whether it has never been attempted.
    pub fresh: bool,
    /// Whether it is in a later round: then it doesn't block a FIFO queue.
    pub later_round: bool,
    /// The trigger of the next attempt.
    pub trigger: Trigger,
}

impl QueueEntry {
    /// The bit of [`QueueEntry::retrying`], in rows and in queues.
    pub const RETRYING: u8 = 1;
    /// The bit of [`QueueEntry::fresh`].
    pub const FRESH: u8 = 2;
    /// The bit of [`QueueEntry::later_round`].
    pub const LATER_ROUND: u8 = 4;

    /// Returns the flags as bits.
    pub fn flags(&self) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        flag(self.retrying, Self::RETRYING)
            | flag(self.fresh, Self::FRESH)
            | flag(self.later_round, Self::LATER_ROUND)
    }
}

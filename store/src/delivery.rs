//! Deliveries: one event to one endpoint, and its attempts. What can happen to one is in [`lifecycle`].

pub mod lifecycle;

use crate::ids::{DeliveryId, UnixMs};
use serde::{Deserialize, Serialize};

/// How many attempts of one delivery are kept with it, the newest ones. Earlier ones are still counted.
pub const ATTEMPTS_KEPT: usize = 1_000;

/// Of how many of them, the newest ones, the beginning of the partner's answer is kept.
pub const EXCERPTS_KEPT: usize = 32;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Stored; no attempt of this round finished.
    Pending,
    /// Failed at least once; another attempt is to come.
    Retrying,
    /// A 2xx came back.
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

    /// Whether attempts are still to come.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Retrying)
    }

    /// Whether it ended without having been delivered.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Abandoned | Self::Failed)
    }

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Retrying => "RETRYING",
            Self::Success => "SUCCESS",
            Self::Abandoned => "ABANDONED",
            Self::Failed => "FAILED",
        }
    }

    /// Reads the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Why a delivery ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The partner answered 410.
    Gone,
    /// Its endpoint was deleted.
    EndpointDeleted,
    /// An operator cancelled it.
    Cancelled,
    /// It was held for an inactive endpoint and discarded.
    Discarded,
    /// What is stored of it is damaged, so that it can't be sent.
    Damaged,
}

impl Reason {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
            Self::Damaged => "damaged",
        }
    }
}

/// What set an attempt off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The schedule.
    #[default]
    Schedule,
    /// An operator's retry.
    Manual,
    /// An operator's replay or recover.
    Replay,
}

impl Trigger {
    /// The name in the API.
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
    /// A 2xx came back.
    Success,
    /// Another status came back.
    HttpStatus,
    /// No answer within the attempt's time.
    Timeout,
    /// No connection.
    Connect,
    /// The name did not resolve.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// Policy forbids the address.
    TargetRefused,
    /// What came back is not HTTP.
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

    /// The name in the API.
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
    /// Its place among all of the delivery's attempts, from 1.
    pub number: u32,
    /// The round it belongs to, from 1.
    pub round: u32,
    /// What set it off.
    pub trigger: Trigger,
    /// When it started.
    pub started_at: UnixMs,
    /// How long the request took, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The status that came back, where one did.
    pub response_code: Option<u16>,
    /// The first bytes of a failure's body, as they came.
    #[serde(with = "crate::optional_bytes")]
    pub response_excerpt: Option<Vec<u8>>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// Whether the request was sent more than once, since the connection ended under it or the partner said that it did not
    /// process it.
    pub reconnected: bool,
}

/// A delivery with its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The pair that it is.
    pub id: DeliveryId,
    /// Its place among its endpoint's deliveries, from 1, without a gap.
    pub sequence: u64,
    /// Where it stands.
    pub status: Status,
    /// Why it ended early, where it did.
    pub reason: Option<Reason>,
    /// The current round, from 1.
    pub round: u32,
    /// Scheduled attempts of this round that finished.
    pub attempts_finished: u32,
    /// What the next attempt's trigger will be.
    pub next_trigger: Trigger,
    /// When the schedule wants the next attempt; `None` when ended.
    pub next_attempt_at: Option<UnixMs>,
    /// When it is due: the schedule's time, or earlier by an operator's retry. `None` when ended.
    pub due: Option<UnixMs>,
    /// Whether the next attempt is an operator's extra one: if it fails, the schedule stays as it was.
    pub extra: bool,
    /// The stamp of the last bulk change before this was written.
    pub stamp: u64,
    /// When it was created.
    pub created_at: UnixMs,
    /// When it last changed.
    pub updated_at: UnixMs,
    /// How many attempts it had in all, those no longer kept included.
    pub attempts_total: u32,
    /// The attempts, oldest first, at most [`ATTEMPTS_KEPT`].
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// The API's `attempt`: the one under way or to come while pending, else those that finished.
    pub fn attempt_shown(&self) -> u32 {
        match self.status {
            Status::Pending => self.attempts_finished.saturating_add(1),
            _ => self.attempts_finished,
        }
    }
}

/// One open delivery, as much of it as queues need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The pair.
    pub id: DeliveryId,
    /// When it is due.
    pub due: UnixMs,
    /// Its place among its endpoint's.
    pub sequence: u64,
    /// Whether an attempt of this round failed already.
    pub retrying: bool,
    /// Whether it never had an attempt at all.
    pub fresh: bool,
    /// Whether its round is a later one: in a FIFO queue it holds nobody up.
    pub later_round: bool,
    /// What the next attempt's trigger is.
    pub trigger: Trigger,
}

impl Waiting {
    /// The bit of [`Waiting::retrying`], in rows and in queues.
    pub const RETRYING: u8 = 1;
    /// The bit of [`Waiting::fresh`].
    pub const FRESH: u8 = 2;
    /// The bit of [`Waiting::later_round`].
    pub const LATER_ROUND: u8 = 4;

    /// What holds or doesn't, as bits.
    pub fn flags(&self) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        flag(self.retrying, Self::RETRYING)
            | flag(self.fresh, Self::FRESH)
            | flag(self.later_round, Self::LATER_ROUND)
    }
}

//! What an attempt's response means: delivered, failed, or gone. Doesn't decide when the next attempt is (`retry`) or
//! whether the endpoint is disabled (`breaker`), and never parses a response body.

use crate::text;
use stormhook_store::AttemptOutcome;

/// How much is kept of an error's text. Libraries include what the receiver sent: the names of its certificate, its
/// reason for closing a connection.
pub const MAX_ERROR_BYTES: usize = 500;
/// The longest `Retry-After` that is read: a date has 29 bytes.
const MAX_RETRY_AFTER_BYTES: usize = 100;

/// Why no status line arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The attempt timed out.
    Timeout,
    /// Connecting failed.
    Connect,
    /// The host name could not be resolved.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// The target guard refused the target.
    TargetRefused,
    /// Not HTTP, or the connection ended before a status line.
    Protocol,
    /// The daemon stopped meanwhile.
    Interrupted,
}

/// The result of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A final status line arrived. What happened to the body after it doesn't matter.
    Status {
        /// The status code.
        code: u16,
        /// The raw value of `Retry-After`.
        retry_after: Option<Vec<u8>>,
        /// The start of the body.
        excerpt: Vec<u8>,
    },
    /// No status line arrived; the text says why, for operators.
    Failed(Failure, String),
    /// No request was made, because the daemon lacked this resource (descriptors, memory, local ports, a route). It
    /// says nothing about the receiver: the delivery waits, and no attempt is recorded.
    OurTrouble(String),
}

/// What the daemon lacked for an attempt, for operators. There was no request, so nothing can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurTrouble(pub String);

/// What an outcome means for the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was delivered.
    Delivered,
    /// It failed; the schedule decides what is next.
    Failed,
    /// The receiver answered 410: no further attempt, and the endpoint is disabled.
    Gone,
    /// It says nothing about the receiver: the attempt uses no place in the schedule and is not counted.
    Uncounted,
}

/// The meaning of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome to record.
    pub outcome: AttemptOutcome,
    /// What it means for the delivery.
    pub effect: Effect,
    /// The status, if one arrived.
    pub response_code: Option<u16>,
    /// The raw value of `Retry-After`, if it counts (429 and 503).
    pub retry_after: Option<Vec<u8>>,
    /// The start of a failure's body; empty after a success.
    pub excerpt: Vec<u8>,
    /// The error if no status arrived, at most [`MAX_ERROR_BYTES`].
    pub error: Option<String>,
}

const GONE: u16 = 410;
const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;

/// Judges a reply. Nothing is kept of the body of a success.
///
/// # Errors
/// [`OurTrouble`]: there was no request to judge.
pub fn judge(reply: Reply) -> Result<Judgement, OurTrouble> {
    match reply {
        Reply::Status {
            code,
            retry_after,
            excerpt,
        } => Ok(judge_status(code, retry_after, excerpt)),
        Reply::Failed(failure, error) => Ok(judge_failure(failure, error)),
        Reply::OurTrouble(what) => Err(OurTrouble(what)),
    }
}

fn judge_failure(failure: Failure, error: String) -> Judgement {
    let outcome = match failure {
        Failure::Timeout => AttemptOutcome::Timeout,
        Failure::Connect => AttemptOutcome::Connect,
        Failure::Dns => AttemptOutcome::Dns,
        Failure::Tls => AttemptOutcome::Tls,
        Failure::TargetRefused => AttemptOutcome::TargetRefused,
        Failure::Protocol => AttemptOutcome::Protocol,
        Failure::Interrupted => AttemptOutcome::Interrupted,
    };
    let effect = if failure == Failure::Interrupted {
        Effect::Uncounted
    } else {
        Effect::Failed
    };
    Judgement {
        outcome,
        effect,
        response_code: None,
        retry_after: None,
        excerpt: Vec::new(),
        error: Some(text::cut(error, MAX_ERROR_BYTES)),
    }
}

fn judge_status(code: u16, retry_after: Option<Vec<u8>>, mut excerpt: Vec<u8>) -> Judgement {
    let (outcome, effect) = match code {
        200..=299 => (AttemptOutcome::Success, Effect::Delivered),
        GONE => (AttemptOutcome::HttpStatus, Effect::Gone),
        _ => (AttemptOutcome::HttpStatus, Effect::Failed),
    };
    if effect == Effect::Delivered {
        excerpt.clear();
    }
    let waits = matches!(code, TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE);
    Judgement {
        outcome,
        effect,
        response_code: Some(code),
        retry_after: retry_after.filter(|value| waits && value.len() <= MAX_RETRY_AFTER_BYTES),
        excerpt,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Judgement {
        let reply = Reply::Status {
            code,
            retry_after: Some(b"5".to_vec()),
            excerpt: b"sorry".to_vec(),
        };
        judge(reply).unwrap()
    }

    #[test]
    fn only_2xx_is_success_and_only_410_is_gone() {
        for code in 100..=999 {
            let expected = match code {
                200..=299 => (AttemptOutcome::Success, Effect::Delivered),
                410 => (AttemptOutcome::HttpStatus, Effect::Gone),
                _ => (AttemptOutcome::HttpStatus, Effect::Failed),
            };
            let verdict = status(code);
            assert_eq!((verdict.outcome, verdict.effect), expected, "{code}");
            assert_eq!((verdict.response_code, verdict.error), (Some(code), None));
        }
    }

    #[test]
    fn an_excerpt_is_kept_of_failures_only() {
        assert_eq!(status(500).excerpt, b"sorry");
        assert_eq!(status(204).excerpt, b"");
    }

    #[test]
    fn retry_after_counts_on_429_and_503_only() {
        let counting: Vec<u16> = (100..=599)
            .filter(|code| status(*code).retry_after.is_some())
            .collect();
        assert_eq!(counting, [429, 503]);
    }

    #[test]
    fn a_failure_without_a_status_is_named_by_its_kind() {
        for (failure, name) in [
            (Failure::Timeout, "timeout"),
            (Failure::Connect, "connect"),
            (Failure::Dns, "dns"),
            (Failure::Tls, "tls"),
            (Failure::TargetRefused, "target_refused"),
            (Failure::Protocol, "protocol"),
            (Failure::Interrupted, "interrupted"),
        ] {
            let verdict = judge(Reply::Failed(failure, "why".to_owned())).unwrap();
            assert_eq!(verdict.outcome.as_str(), name);
            let counted = verdict.effect == Effect::Failed;
            assert_eq!(counted, failure != Failure::Interrupted, "{name}");
            assert_eq!(
                (verdict.error.as_deref(), verdict.response_code),
                (Some("why"), None)
            );
        }
    }

    #[test]
    fn a_lack_of_resources_is_not_an_attempt() {
        let reply = Reply::OurTrouble("no descriptors".to_owned());
        let expected = Err(OurTrouble("no descriptors".to_owned()));
        assert_eq!(judge(reply), expected);
    }

    #[test]
    fn an_error_is_kept_up_to_its_bound_and_marked_where_it_is_cut() {
        for failure in [
            Failure::Timeout,
            Failure::Connect,
            Failure::Dns,
            Failure::Tls,
            Failure::TargetRefused,
            Failure::Protocol,
            Failure::Interrupted,
        ] {
            for long in ["x".repeat(62_074), "é".repeat(40_000)] {
                let verdict = judge(Reply::Failed(failure, long.clone())).unwrap();
                let error = verdict.error.unwrap();
                assert!(error.len() <= MAX_ERROR_BYTES, "{failure:?}");
                assert!(error.len() > MAX_ERROR_BYTES - 4, "{failure:?}");
                assert!(error.ends_with(&format!("… ({} bytes)", long.len())));
            }
            let whole = "x".repeat(MAX_ERROR_BYTES);
            let verdict = judge(Reply::Failed(failure, whole.clone())).unwrap();
            assert_eq!(verdict.error, Some(whole));
        }
    }

    #[test]
    fn a_retry_after_that_is_too_long_to_be_one_does_not_count() {
        for (bytes, counts) in [
            (MAX_RETRY_AFTER_BYTES, true),
            (MAX_RETRY_AFTER_BYTES + 1, false),
        ] {
            let reply = Reply::Status {
                code: 503,
                retry_after: Some(vec![b'1'; bytes]),
                excerpt: Vec::new(),
            };
            assert_eq!(
                judge(reply).unwrap().retry_after.is_some(),
                counts,
                "{bytes}"
            );
        }
    }

    #[test]
    fn outcome_names_are_those_of_the_contract() {
        let names = AttemptOutcome::ALL.map(AttemptOutcome::as_str).join(" ");
        assert_eq!(
            names,
            "success http_status timeout connect dns tls target_refused protocol interrupted"
        );
    }
}

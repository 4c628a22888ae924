//! The lines of the response, one for each line that was sent.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::Answer;
use crate::failure::Failure;

/// One line of the response.
#[derive(Deserialize)]
pub(super) struct AnswerLine<'a> {
    /// The number of the line in this stream.
    pub(super) line: u64,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default)]
    deliveries: Option<u64>,
    #[serde(borrow, default)]
    problem: Option<&'a RawValue>,
}

/// The result in one line of the response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted {
        deliveries: u64,
    },
    Replayed,
    Rejected(Problem),
    /// Nothing was stored, or it is not known; the same line may be accepted later.
    NotNow(Problem),
    /// The daemon reads no more of this stream.
    Cut(Problem),
}

/// Why.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    title: String,
    detail: String,
    pub(super) code: String,
    field: Option<String>,
}

impl Problem {
    pub(super) fn read(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// The problem of a line that is too long for any daemon.
    pub(super) fn too_long() -> Self {
        Self {
            detail: "a line may have at most 16 MiB: send less data, or a link to it".to_owned(),
            code: "event_too_large".to_owned(),
            ..Self::default()
        }
    }

    /// Whether the same line may be accepted later.
    fn passes(&self) -> bool {
        matches!(
            self.code.as_str(),
            "busy" | "storage_full" | "shutting_down" | "store_failed"
        )
    }
}

impl fmt::Display for Problem {
    /// Prints it on one line, safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        };
        let field = self
            .field
            .as_deref()
            .map(|field| format!(", field {field}"))
            .unwrap_or_default();
        let text = format!("{what} ({}{field})", self.code);
        f.write_str(&crate::terminal::plain(&text))
    }
}

impl<'a> AnswerLine<'a> {
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Failure> {
        serde_json::from_slice(line).map_err(|error| {
            Failure::No(format!("can't parse a line of the daemon's response ({error}): check that no other program listens on this socket"))
        })
    }

    pub(super) fn verdict(&self) -> Verdict {
        let problem = || Problem::read(self.problem.map_or(b"", |raw| raw.get().as_bytes()));
        match self.status.as_ref() {
            "accepted" => Verdict::Accepted {
                deliveries: self.deliveries.unwrap_or(0),
            },
            "replayed" => Verdict::Replayed,
            "cut" => Verdict::Cut(problem()),
            _ => match problem() {
                problem if problem.passes() => Verdict::NotNow(problem),
                problem => Verdict::Rejected(problem),
            },
        }
    }
}

/// Turns the response to a line that was sent as a single event into a line of a stream's response, with its result. A
/// daemon that is unreachable or full has not answered.
pub(super) fn of_one_event(answer: Result<Answer, Failure>) -> Result<(String, Verdict), Failure> {
    match answer {
        Ok(answer) => {
            let value = answer.value()?;
            let replayed = answer.headers.contains_key("idempotency-replayed");
            let deliveries = value["deliveries"].as_u64().unwrap_or(0);
            let (status, verdict) = if replayed {
                ("replayed", Verdict::Replayed)
            } else {
                ("accepted", Verdict::Accepted { deliveries })
            };
            let id = &value["id"];
            let json =
                format!(r#"{{"line":0,"status":"{status}","id":{id},"deliveries":{deliveries}}}"#);
            Ok((json, verdict))
        }
        Err(Failure::Refused(refusal)) if refusal.status != 503 => {
            let problem = String::from_utf8_lossy(&refusal.body);
            let json = format!(r#"{{"line":0,"status":"rejected","problem":{problem}}}"#);
            Ok((json, Verdict::Rejected(Problem::read(&refusal.body))))
        }
        Err(failure) => Err(failure),
    }
}

/// Returns the result line with the input's line number instead of the stream's.
pub(super) fn renumbered(line: &[u8], number: u64) -> Cow<'_, [u8]> {
    const BEGINS: &[u8] = br#"{"line":"#;
    let Some(rest) = line.strip_prefix(BEGINS) else {
        return Cow::Borrowed(line);
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..).unwrap_or_default();
    Cow::Owned([BEGINS, number.to_string().as_bytes(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_names_reason_code_and_field() {
        let problem = Problem::read(
            br#"{"title":"T","detail":"type is required.","code":"invalid_field","field":"type"}"#,
        );
        assert_eq!(
            problem.to_string(),
            "type is required. (invalid_field, field type)"
        );
        assert_eq!(Problem::read(b"nonsense").to_string(), " ()");
    }

    #[test]
    fn what_may_be_taken_later_is_told_from_what_will_not() {
        let verdict = |text: &str| AnswerLine::read(text.as_bytes()).unwrap().verdict();
        let rejected = |code: &str| {
            verdict(&format!(
                r#"{{"line":1,"status":"rejected","problem":{{"code":"{code}"}}}}"#
            ))
        };
        for code in ["busy", "storage_full", "shutting_down", "store_failed"] {
            assert!(matches!(rejected(code), Verdict::NotNow(_)), "{code}");
        }
        for code in ["invalid_json", "idempotency_conflict", "event_too_large"] {
            assert!(matches!(rejected(code), Verdict::Rejected(_)), "{code}");
        }
        let cut = verdict(r#"{"line":1,"status":"cut","problem":{"code":"request_timeout"}}"#);
        assert!(matches!(cut, Verdict::Cut(_)));
    }

    #[test]
    fn an_answer_gets_the_number_of_the_input() {
        let renumbered = |line: &str, number| {
            String::from_utf8(renumbered(line.as_bytes(), number).into_owned()).unwrap()
        };
        assert_eq!(
            renumbered(r#"{"line":1,"status":"accepted"}"#, 4_097),
            r#"{"line":4097,"status":"accepted"}"#
        );
        assert_eq!(renumbered(r#"{"status":"x"}"#, 2), r#"{"status":"x"}"#);
    }
}

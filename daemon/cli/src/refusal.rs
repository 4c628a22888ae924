//! Words the daemon's error responses for people: what is wrong, then what identifies it, then what to type.
//!
//! The API's details are written for its callers; if a command solves the problem, the hint names it.

use serde_json::Value;

use crate::settings::{SETTINGS, Setting};
use stormhook_engine::text::plain;

/// How much is shown of a response that is not a problem.
const EXCERPT_CHARS: usize = 300;

/// An error response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body as it came, usually `application/problem+json`.
    pub(crate) body: Vec<u8>,
    /// `x-request-id` of the response.
    pub(crate) request_id: Option<String>,
    /// The requested path, with its query.
    pub(crate) path: String,
    /// The endpoint that the command was about, if the path doesn't name it.
    pub(crate) endpoint: Option<String>,
}

/// An error in three parts, each safe to print.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// What is wrong and what to do, in the daemon's words.
    pub(crate) what: String,
    /// Code, status and request.
    pub(crate) which: String,
    /// What to type.
    pub(crate) hint: Option<String>,
}

impl Refusal {
    /// Words it for people.
    pub(crate) fn in_words(&self) -> Words {
        let problem = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let part = |key: &str| problem.get(key).and_then(Value::as_str);
        let code = part("code");
        let field = part("field");
        let what = match (part("detail").or_else(|| part("title")), field) {
            (Some(detail), Some(field)) => format!("{} (field {})", plain(detail), plain(field)),
            (Some(detail), None) => plain(detail),
            (None, _) => self.excerpt(),
        };
        let mut which = code.map(plain).into_iter().collect::<Vec<_>>();
        which.push(format!("status {}", self.status));
        which.extend(self.request_id.as_deref().map(plain));
        Words {
            what,
            which: which.join(", "),
            hint: code.and_then(|code| self.hint(code, field)),
        }
    }

    /// Returns the start of a response that is not a problem.
    fn excerpt(&self) -> String {
        let text = plain(String::from_utf8_lossy(&self.body).trim());
        let text: String = text.chars().take(EXCERPT_CHARS).collect();
        let colon = if text.is_empty() { "" } else { ": " };
        format!("the daemon answered {}{colon}{text}", self.status)
    }

    fn hint(&self, code: &str, field: Option<&str>) -> Option<String> {
        let mut parts = self.path.split(['/', '?']).skip(2);
        let (collection, id) = (parts.next().unwrap_or_default(), parts.next());
        let noun = match collection {
            "endpoints" => "endpoint",
            "events" => "event",
            "deliveries" => "delivery",
            _ => "",
        };
        let id = id.unwrap_or_default();
        let text = match code {
            "endpoint_inactive" => {
                let named = Some(id).filter(|_| noun == "endpoint");
                let endpoint = self.endpoint.as_deref().or(named).unwrap_or("ENDPOINT");
                format!("stormhook endpoint enable {endpoint}")
            }
            "delivery_in_flight" => format!("stormhook delivery show {id}"),
            "delivery_ended" => format!("`stormhook delivery retry {id}` starts a new round"),
            "not_found" if !noun.is_empty() && self.endpoint.is_none() => {
                format!("stormhook {noun} list")
            }
            "idempotency_conflict" => {
                "`stormhook event list --idempotency-key KEY` shows the other event".to_owned()
            }
            "invalid_cursor" => "omit --cursor to begin with the newest".to_owned(),
            "token_missing" | "token_invalid" => {
                "check the file named by --token-file or STORMHOOK_TOKEN_FILE".to_owned()
            }
            "storage_full" => "`stormhook config` shows limits.disk_reserve".to_owned(),
            "busy" if !matches!(collection, "backup" | "check") => {
                "`stormhook stats` shows the queue".to_owned()
            }
            // In an event the field is named in its JSON; elsewhere by a flag.
            "invalid_field" | "target_refused" if self.path != "/v1/events" => {
                format!("set it with {}", flag_of(field?)?)
            }
            _ => return None,
        };
        Some(text)
    }
}

/// Returns the flag for a field of the API that has another name.
fn flag_of(field: &str) -> Option<String> {
    const FLAGS: [(&str, &str); 11] = [
        ("organizationId", "--organization"),
        ("eventTypes", "--event-type"),
        ("eventType", "--event-type"),
        ("secret", "--secret-file"),
        ("endpointId", "--endpoint"),
        ("eventId", "--event"),
        ("idempotencyKey", "--idempotency-key"),
        ("active", "--inactive"),
        ("tls.clientCertificate", "--client-certificate"),
        ("tls.clientKey", "--client-key"),
        ("tls.caCertificate", "--ca-certificate"),
    ];
    let of_endpoint = || {
        let mut settings = SETTINGS.iter().map(Setting::names);
        let (_, flag) = settings.find(|(key, flag)| *key == field && key != flag)?;
        Some(format!("--{flag}"))
    };
    let known = FLAGS.iter().find(|(name, _)| *name == field);
    known
        .map(|(_, flag)| (*flag).to_owned())
        .or_else(of_endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str, body: &str) -> Refusal {
        Refusal {
            status: 409,
            body: body.into(),
            request_id: Some("req_7".into()),
            path: path.into(),
            endpoint: None,
        }
    }

    fn hint(path: &str, code: &str, field: &str) -> Option<String> {
        let body = serde_json::json!({"code": code, "field": field, "detail": "d"}).to_string();
        refusal(path, &body).in_words().hint
    }

    #[test]
    fn what_is_wrong_comes_first_and_the_phrase_of_the_status_never() {
        let body = r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"url must be a URL; give one like https://partner.example/hooks","code":"invalid_field","field":"url"}"#;
        assert_eq!(
            refusal("/v1/endpoints", body).in_words(),
            Words {
                what: "url must be a URL; give one like https://partner.example/hooks (field url)"
                    .into(),
                which: "invalid_field, status 409, req_7".into(),
                hint: None,
            }
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_is_shown_by_status_and_first_words() {
        let words = refusal("/v1/stats", "Bad \u{1b}[2J Gateway\n").in_words();
        assert_eq!(
            words.what,
            "the daemon answered 409: Bad \\u{1b}[2J Gateway"
        );
        assert_eq!(words.which, "status 409, req_7");
        assert_eq!(refusal("/", "").in_words().what, "the daemon answered 409");
        assert!(refusal("/", &"x".repeat(100_000)).in_words().what.len() < 400);
    }

    #[test]
    fn what_the_api_says_to_callers_is_said_to_users_as_a_command() {
        let ep = "/v1/endpoints/ep_1/recover";
        for (path, code, field, expected) in [
            (
                ep,
                "endpoint_inactive",
                "",
                Some("stormhook endpoint enable ep_1"),
            ),
            (
                "/v1/deliveries/dlv_1/retry",
                "endpoint_inactive",
                "",
                Some("stormhook endpoint enable ENDPOINT"),
            ),
            (
                "/v1/deliveries/dlv_1/cancel",
                "delivery_ended",
                "",
                Some("`stormhook delivery retry dlv_1` starts a new round"),
            ),
            (
                "/v1/deliveries/dlv_1/retry",
                "delivery_in_flight",
                "",
                Some("stormhook delivery show dlv_1"),
            ),
            (
                "/v1/events/evt_1",
                "not_found",
                "",
                Some("stormhook event list"),
            ),
            (
                "/v1/stats?endpointId=x",
                "invalid_field",
                "endpointId",
                Some("set it with --endpoint"),
            ),
            (
                "/v1/endpoints",
                "invalid_field",
                "eventTypes",
                Some("set it with --event-type"),
            ),
            ("/v1/endpoints", "target_refused", "url", None),
            ("/v1/events", "invalid_field", "organizationId", None),
            ("/v1/events", "invalid_json", "", None),
        ] {
            assert_eq!(
                hint(path, code, field).as_deref(),
                expected,
                "{path} {code}"
            );
        }
    }

    #[test]
    fn a_replay_to_an_inactive_endpoint_names_the_endpoint() {
        let mut refusal = refusal(
            "/v1/events/evt_1/replay",
            r#"{"code":"endpoint_inactive","detail":"d"}"#,
        );
        refusal.endpoint = Some("ep_9".into());
        assert_eq!(
            refusal.in_words().hint.as_deref(),
            Some("stormhook endpoint enable ep_9")
        );
    }
}

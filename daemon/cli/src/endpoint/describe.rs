//! Describes an endpoint: its settings, its state, its secrets. Pure: the API's JSON in, text out.

use serde_json::Value;

use super::tls;
use crate::settings::SETTINGS;
use crate::table::{Cell, pairs};
use crate::terminal::Tone;

/// Describes one endpoint.
pub(super) fn describe(endpoint: &Value, colour: bool) -> String {
    let mut rows = vec![
        ("endpoint", Cell::of(endpoint, "id").tone(Tone::Bold)),
        ("organization", Cell::of(endpoint, "organizationId")),
        ("url", Cell::of(endpoint, "url")),
        ("event types", Cell::of(endpoint, "eventTypes")),
        ("state", state(endpoint)),
    ];
    if endpoint.get("disabledReason").is_some_and(Value::is_string) {
        let why = Cell::of(endpoint, "disabledReason").tone(Tone::Warn);
        rows.push(("disabled because", why));
    }
    rows.extend(
        SETTINGS
            .iter()
            .filter_map(|setting| setting.shown(endpoint)),
    );
    if endpoint.get("ed25519").and_then(Value::as_bool) == Some(true) {
        rows.push(("ed25519", Cell::text("on")));
    }
    rows.extend(tls::shown(endpoint));
    let warnings = endpoint.get("warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten() {
        rows.push(("warning", Cell::of(warning, "detail").tone(Tone::Warn)));
    }
    rows.extend([
        ("failures in a row", Cell::of(endpoint, "failureCount")),
        ("last success", Cell::of(endpoint, "lastSuccessAt")),
        ("created", Cell::of(endpoint, "createdAt")),
        ("updated", Cell::of(endpoint, "updatedAt")),
    ]);
    pairs(&rows, colour)
}

/// Returns active or inactive, in a tone.
pub(super) fn state(endpoint: &Value) -> Cell {
    match endpoint.get("active").and_then(Value::as_bool) {
        Some(true) => Cell::toned(Tone::Good, "active"),
        Some(false) => Cell::toned(Tone::Warn, "inactive"),
        None => Cell::text("-"),
    }
}

/// Describes the secret and the earlier ones that still sign, each with its public key if it has one.
pub(super) fn secrets(value: &Value, colour: bool) -> String {
    let mut rows = vec![("secret", Cell::of(value, "secret").tone(Tone::Bold))];
    rows.extend(public_key(value).map(|key| ("public key", key.tone(Tone::Bold))));
    for earlier in earlier(value) {
        rows.push(("also signs", Cell::of(earlier, "secret")));
        rows.extend(public_key(earlier).map(|key| ("  public key", key)));
        rows.push(("  until", Cell::of(earlier, "until")));
    }
    pairs(&rows, colour)
}

/// Describes the public keys of the secrets, without the secrets.
pub(super) fn public_keys(value: &Value, colour: bool) -> String {
    let mut rows = Vec::new();
    rows.extend(public_key(value).map(|key| ("public key", key.tone(Tone::Bold))));
    for earlier in earlier(value) {
        if let Some(key) = public_key(earlier) {
            rows.push(("also verifies", key));
            rows.push(("  until", Cell::of(earlier, "until")));
        }
    }
    pairs(&rows, colour)
}

fn earlier(value: &Value) -> impl Iterator<Item = &Value> {
    let previous = value.get("previous").and_then(Value::as_array);
    previous.into_iter().flatten()
}

fn public_key(value: &Value) -> Option<Cell> {
    value.get("publicKey").map(|_| Cell::of(value, "publicKey"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_is_described_without_empty_remarks_and_without_header_values() {
        let text = describe(
            &json!({"id":"ep_1","organizationId":"org_42","url":"https://partner.example/hooks","eventTypes":["order.*","a.b"],
                "active":true,"disabledReason":null,"description":null,"headers":{"x-api-key":"***"},"rateLimitPerSecond":null,
                "ordering":"parallel","failureCount":0,"lastSuccessAt":null,"createdAt":"c","updatedAt":"u"}),
            false,
        );
        assert!(text.contains("event types        order.*, a.b"), "{text}");
        assert!(text.contains("x-api-key (values are not shown)"), "{text}");
        assert!(
            !text.contains("disabled because") && !text.contains("description"),
            "{text}"
        );
    }

    #[test]
    fn public_keys_are_shown_with_the_secrets_and_without() {
        let value = json!({"secret": "s-1", "publicKey": "whpk_1", "previous": [
            {"secret": "s-2", "publicKey": "whpk_2", "until": "u-2"}, {"secret": "s-3", "until": "u-3"}]});
        let words = |text: String| {
            let words = text.split_whitespace().map(str::to_owned);
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            words(secrets(&value, false)),
            "secret s-1 public key whpk_1 also signs s-2 public key whpk_2 until u-2 also signs s-3 until u-3"
        );
        assert_eq!(
            words(public_keys(&value, false)),
            "public key whpk_1 also verifies whpk_2 until u-2"
        );
        let on = json!({"id": "ep_1", "active": true, "ed25519": true});
        assert!(words(describe(&on, false)).contains("ed25519 on"));
        assert!(!describe(&json!({"id": "ep_1"}), false).contains("ed25519"));
    }

    #[test]
    fn warnings_are_shown() {
        let text = describe(
            &json!({"id":"ep_1","active":true,"warnings":[{"code":"certificate_expired","detail":"It expired."}]}),
            false,
        );
        assert!(
            text.contains("warning") && text.contains("It expired."),
            "{text}"
        );
    }

    #[test]
    fn a_disabled_endpoint_says_why() {
        let text = describe(
            &json!({"id":"ep_1","active":false,"disabledReason":"gone"}),
            false,
        );
        assert!(text.contains("disabled because   gone"), "{text}");
        assert!(text.contains("inactive"), "{text}");
    }
}

//! An endpoint in words: its settings, its state, its secrets. Pure: the API's JSON in, text out.

use serde_json::Value;

use super::super::screen::Tone;
use super::super::table::{Cell, pairs};

/// One endpoint in words.
pub(super) fn describe(endpoint: &Value, colour: bool) -> String {
    let headers = endpoint
        .get("headers")
        .and_then(Value::as_object)
        .map(|headers| headers.keys().cloned().collect::<Vec<_>>().join(", "));
    let headers = headers
        .filter(|names| !names.is_empty())
        .map(|names| format!("{names} (values are not shown)"));
    let rows = [
        ("endpoint", Cell::of(endpoint, "id").tone(Tone::Bold)),
        ("organization", Cell::of(endpoint, "organizationId")),
        ("url", Cell::of(endpoint, "url")),
        ("event types", Cell::of(endpoint, "eventTypes")),
        ("state", state(endpoint)),
        (
            "disabled because",
            Cell::of(endpoint, "disabledReason").tone(Tone::Warn),
        ),
        ("description", Cell::of(endpoint, "description")),
        ("headers", Cell::text(headers.as_deref().unwrap_or("-"))),
        ("rate limit /s", Cell::of(endpoint, "rateLimitPerSecond")),
        ("ordering", Cell::of(endpoint, "ordering")),
        ("failures in a row", Cell::of(endpoint, "failureCount")),
        ("last success", Cell::of(endpoint, "lastSuccessAt")),
        ("created", Cell::of(endpoint, "createdAt")),
        ("updated", Cell::of(endpoint, "updatedAt")),
    ];
    let says_something = |name: &str| match name {
        "disabled because" => endpoint.get("disabledReason").is_some_and(Value::is_string),
        "description" => endpoint.get("description").is_some_and(Value::is_string),
        _ => true,
    };
    let shown: Vec<_> = rows
        .into_iter()
        .filter(|(name, _)| says_something(name))
        .collect();
    pairs(&shown, colour)
}

/// Active or not, in a tone.
pub(super) fn state(endpoint: &Value) -> Cell {
    match endpoint.get("active").and_then(Value::as_bool) {
        Some(true) => Cell::toned(Tone::Good, "active"),
        Some(false) => Cell::toned(Tone::Warn, "inactive"),
        None => Cell::text("-"),
    }
}

/// The secret, and the earlier ones that still sign.
pub(super) fn secrets(value: &Value, colour: bool) -> String {
    let mut rows = vec![("secret", Cell::of(value, "secret").tone(Tone::Bold))];
    for earlier in value
        .get("previous")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        rows.push(("signs too", Cell::of(earlier, "secret")));
        rows.push(("  until", Cell::of(earlier, "until")));
    }
    pairs(&rows, colour)
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
    fn a_disabled_endpoint_says_why() {
        let text = describe(
            &json!({"id":"ep_1","active":false,"disabledReason":"gone"}),
            false,
        );
        assert!(text.contains("disabled because   gone"), "{text}");
        assert!(text.contains("inactive"), "{text}");
    }
}

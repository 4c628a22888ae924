//! What the fields of a body require of each other, which no attribute can express.

use serde_json::{Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{Components, Schema};
use utoipa::openapi::{Object, RefOr};

/// Adds the conditions to the schemas that have some.
pub(super) fn add(components: &mut Components) {
    for (name, keyword, condition) in conditions() {
        let Some(RefOr::T(Schema::Object(schema))) = components.schemas.get_mut(name) else {
            continue;
        };
        with(schema, keyword, condition);
    }
}

/// Adds a keyword of JSON Schema that the builder of schemas lacks.
pub(in crate::http) fn with(schema: &mut Object, keyword: &str, value: Value) {
    let extensions = schema.extensions.get_or_insert_with(Extensions::default);
    extensions.insert(keyword.to_owned(), value);
}

/// Returns each condition: the schema that has it, its keyword and its value.
pub(super) fn conditions() -> [(&'static str, &'static str, Value); 5] {
    let unless = |field: &str, value: Value, then: Value| {
        let absent = json!({"properties": {field: value}});
        json!({field: {"anyOf": [absent, then]}})
    };
    let needed =
        |field: &str, value: Value| json!({"properties": {field: value}, "required": [field]});
    let text = || json!({"type": "string"});
    let null = || json!({"type": "null"});
    let mut pair = unless("clientCertificate", null(), needed("clientKey", text()));
    let other = unless("clientKey", null(), needed("clientCertificate", text()));
    if let (Some(pair), Value::Object(other)) = (pair.as_object_mut(), other) {
        pair.extend(other);
    }
    let not_admin =
        json!({"properties": {"scopes": {"items": {"enum": ["ingest", "read", "write"]}}}});
    [
        (
            "EndpointChange",
            "dependentSchemas",
            unless(
                "discardHeld",
                json!({"const": false}),
                needed("active", json!({"const": true})),
            ),
        ),
        ("NewEndpointTls", "dependentSchemas", pair),
        (
            "NewApiKey",
            "dependentSchemas",
            unless("organizationId", null(), not_admin),
        ),
        (
            "NewPurge",
            "oneOf",
            json!([{"required": ["eventIds"]}, {"required": ["before"]}]),
        ),
        (
            "NewEvent",
            "not",
            needed("type", json!({"pattern": "^stormhook\\."})),
        ),
    ]
}

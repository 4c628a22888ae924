//! The document is consistent. The `tests` crate checks requests and responses against it on the running daemon.

use super::enums::ProblemCode;
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    let of_routes = crate::http::routes::routes().into_openapi();
    serde_json::to_value(super::document(of_routes)).unwrap()
}

/// Returns every operation with its path, its method in capitals first.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap();
            methods
                .iter()
                .map(move |(method, it)| (method.to_uppercase(), path.clone(), it))
        })
        .collect()
}

/// Calls `each` for every object in the document.
fn walk<'v>(value: &'v Value, each: &mut dyn FnMut(&'v serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            each(members);
            members.values().for_each(|member| walk(member, each));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, each)),
        _ => {}
    }
}

fn references(document: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    walk(document, &mut |object| {
        found.extend(object.get("$ref").and_then(Value::as_str));
    });
    found
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    let document = document();
    let referred = references(&document);
    for reference in &referred {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            let used = kind == "securitySchemes" || referred.contains(reference.as_str());
            assert!(used, "{reference} is used nowhere");
        }
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_what_it_does() {
    let document = document();
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().collect();
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let text = |member: &str| operation[member].as_str().unwrap_or_default();
        let name = text("operationId");
        assert!(
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_alphanumeric()),
            "{method} {path}: {name:?}"
        );
        assert!(names.insert(name.to_owned()), "{name} twice");
        assert!(!text("summary").is_empty(), "{name}");
        assert!(!text("description").is_empty(), "{name}");
        let tag = &operation["tags"];
        assert_eq!(tag.as_array().unwrap().len(), 1, "{name}");
        assert!(tags.iter().any(|known| known["name"] == tag[0]), "{name}");
    }
    assert!(tags.iter().all(|tag| tag["description"].is_string()));
}

#[test]
fn every_response_says_what_it_is_and_carries_the_requests_number() {
    let document = document();
    let mut responses: Vec<(String, &Value)> = Vec::new();
    for (_, _, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let of_one = operation["responses"].as_object().unwrap();
        responses.extend(
            of_one
                .iter()
                .map(|(status, it)| (format!("{id} {status}"), it)),
        );
    }
    for (what, response) in responses {
        let shared = response["$ref"]
            .as_str()
            .and_then(|reference| document.pointer(reference.strip_prefix('#')?));
        let whole = shared.unwrap_or(response);
        assert!(whole["description"].is_string(), "{what}");
        assert!(whole["headers"]["x-request-id"].is_object(), "{what}");
        let is_problem = whole["content"]["application/problem+json"].is_object();
        assert_eq!(is_problem, shared.is_some(), "{what}: failures are shared");
    }
}

#[test]
fn the_parameters_of_a_path_are_declared_and_no_others() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let named: BTreeSet<_> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let none = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&none);
        let declared: BTreeSet<_> = parameters
            .iter()
            .filter(|p| p["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, declared, "{method} {path}");
        for parameter in parameters {
            let what = format!("{method} {path}: {parameter}");
            assert_eq!(parameter["required"], parameter["in"] == "path", "{what}");
            assert!(parameter["description"].is_string(), "{what}");
            let schema = &parameter["schema"];
            assert!(
                schema["type"].is_string() || schema["$ref"].is_string(),
                "{what}"
            );
        }
    }
}

#[test]
fn all_but_the_health_routes_need_the_token() {
    let document = document();
    assert_eq!(document["security"], serde_json::json!([{"bearer": []}]));
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    for (_, path, operation) in operations(&document) {
        let open = operation["security"] == serde_json::json!([{}]);
        assert_eq!(open, matches!(&*path, "/healthz" | "/readyz"), "{path}");
        assert_eq!(open, operation["responses"]["401"].is_null(), "{path}");
    }
}

#[test]
fn what_is_required_is_a_property() {
    let document = document();
    walk(&document, &mut |object| {
        let Some(required) = object.get("required").and_then(Value::as_array) else {
            return;
        };
        // An alternative of a condition names what the object around it has.
        if object.len() == 1 {
            return;
        }
        let properties = object["properties"].as_object().unwrap();
        for name in required {
            assert!(properties.contains_key(name.as_str().unwrap()), "{name}");
        }
    });
}

#[test]
fn a_body_is_closed_and_null_is_taken_only_where_it_clears() {
    let document = document();
    let mut nullable = BTreeSet::new();
    for (_, _, operation) in operations(&document) {
        let Some(content) = operation["requestBody"]["content"].as_object() else {
            continue;
        };
        let content = content.values().next().unwrap();
        let reference = content["schema"]["$ref"].as_str().unwrap();
        let schema = document.pointer(&reference[1..]).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{reference}");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if property["type"]
                .as_array()
                .is_some_and(|types| types.contains(&"null".into()))
            {
                nullable.insert(name.as_str());
            }
        }
    }
    let clears = [
        "description",
        "ed25519",
        "headers",
        "newKeyFile",
        "rateLimitPerSecond",
    ];
    // A key that is for all organizations, and one that never expires.
    let of_key = ["organizationId", "expiresAt"];
    let clears = clears.into_iter().chain(of_key);
    assert_eq!(nullable, clears.collect::<BTreeSet<_>>());
}

#[test]
fn every_code_is_one_that_some_answer_may_carry() {
    let document = document();
    let shared = &document["components"]["responses"];
    let of_operations = operations(&document)
        .into_iter()
        .map(|(_, _, operation)| operation["responses"].to_string())
        .collect::<String>();
    let told = of_operations + &shared["NoSuchRoute"].to_string();
    for (code, _) in ProblemCode::all() {
        assert!(told.contains(&format!("`{}`", code.as_str())), "{code:?}");
    }
}

/// The line after which the table of operations stands in the page.
const BEFORE: &str = "<!-- Written by a test from the table of routes. -->\n";

/// With `STORMHOOK_WRITE_REFERENCE=1` it writes the table instead.
#[test]
fn the_page_on_callers_has_the_scope_of_every_operation() {
    let document = document();
    let mut table =
        "\n| operation | scope | with a key of one organization |\n| --- | --- | --- |\n"
            .to_owned();
    for (method, path, operation) in operations(&document) {
        let scope = operation["security"][0]["bearer"][0].as_str();
        let description = operation["description"].as_str().unwrap();
        let (scope, bound) = match scope {
            None => ("none".to_owned(), "yes"),
            Some(scope) if description.contains("Not with a key") => (format!("`{scope}`"), "no"),
            Some(scope) => (format!("`{scope}`"), "yes"),
        };
        table.push_str(&format!("| `{method} {path}` | {scope} | {bound} |\n"));
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/callers.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = page.split_once(BEFORE).unwrap();
    let (_, tail) = rest.split_once("\n## ").unwrap();
    let expected = format!("{head}{BEFORE}{table}\n## {tail}");
    if std::env::var_os("STORMHOOK_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/callers.md is out of date: run this test with STORMHOOK_WRITE_REFERENCE=1"
    );
}

//! The daemon's own description of its API, and the check that responses match it: status, headers, media type, problem
//! code and body, and that the description allows every body that the daemon accepted. It is read from the first daemon
//! that a test starts; from then on every response is checked.

use super::Client;
use super::client::Answer;
use bytes::Bytes;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

/// Headers that are present if and only if the description says so.
const TOLD_HEADERS: [&str; 5] = [
    "allow",
    "idempotency-replayed",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];

static DOCUMENT: OnceLock<Document> = OnceLock::new();

pub(crate) struct Document {
    json: Value,
    /// The schemas, with every object closed: in the tests, anything not described is an error.
    closed: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
    seen: Mutex<BTreeSet<String>>,
}

/// Reads the description unless it is known. A daemon that can't be queried is not the subject of its test.
pub(super) async fn learn(client: &Client) {
    if DOCUMENT.get().is_none()
        && let Ok(answer) = client.call("GET", "/v1/openapi.json").try_send().await
        && answer.status == 200
    {
        DOCUMENT.get_or_init(|| Document::new(answer.json()));
    }
}

/// Returns the description, once a daemon has started.
pub(crate) fn document() -> &'static Document {
    DOCUMENT.get().expect("a daemon has been asked")
}

/// Fails if a response, or an accepted body, is not as described.
pub(super) fn check(method: &str, target: &str, sent: &Bytes, answer: &Answer) {
    if let Some(document) = DOCUMENT.get() {
        document.check(method, target, sent, answer);
    }
}

/// Fails if a value does not match the schema of this name.
#[track_caller]
pub(super) fn check_value(schema: &str, value: &Value) {
    if let Some(document) = DOCUMENT.get() {
        let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
        document.fits(&reference, value, schema);
    }
}

impl Document {
    fn new(json: Value) -> Self {
        let mut closed = json["components"]["schemas"].clone();
        close(&mut closed);
        Self {
            json,
            closed,
            validators: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn json(&self) -> &Value {
        &self.json
    }

    /// Returns every operation with its method in capitals and its path.
    pub(crate) fn operations(&self) -> Vec<(String, String, &Value)> {
        let paths = self.json["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&String, &'_ Value)| {
            let methods = methods.as_object().unwrap().keys();
            methods
                .map(|method| (method.to_uppercase(), path.clone()))
                .collect::<Vec<_>>()
        };
        paths
            .iter()
            .flat_map(of_path)
            .map(|(method, path)| {
                let operation = &self.json["paths"][&path][method.to_lowercase()];
                (method, path, operation)
            })
            .collect()
    }

    /// Returns what has been answered so far, as `operationId status`.
    pub(crate) fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the target of a reference, or the object itself.
    pub(crate) fn resolved<'a>(&'a self, thing: &'a Value) -> &'a Value {
        let pointer = thing["$ref"]
            .as_str()
            .and_then(|text| text.strip_prefix('#'));
        pointer.map_or(thing, |pointer| self.json.pointer(pointer).unwrap())
    }

    fn operation(&self, method: &str, target: &str) -> Option<&Value> {
        let path = target.split('?').next().unwrap();
        let fits = |template: &&String| {
            let mut parts = path.split('/');
            let all = template.split('/').all(|part| {
                let came = parts.next();
                came == Some(part)
                    || (part.starts_with('{') && came.is_some_and(|it| !it.is_empty()))
            });
            all && parts.next().is_none()
        };
        let paths = self.json["paths"].as_object().unwrap();
        // A literal path takes precedence over one with a placeholder.
        let template = paths
            .keys()
            .filter(fits)
            .min_by_key(|path| path.contains('{'))?;
        paths[template].get(method.to_lowercase())
    }

    fn check(&self, method: &str, target: &str, sent: &Bytes, answer: &Answer) {
        // Requests that match no operation are not described further; `HEAD` is `GET` without the body.
        let Some(operation) = self.operation(method, target) else {
            return;
        };
        let id = operation["operationId"].as_str().unwrap();
        let status = answer.status.as_str();
        let response = &operation["responses"][status];
        assert!(
            response.is_object(),
            "{id}: {status} is not described: {answer:?}"
        );
        let whole = self.resolved(response);
        self.seen.lock().unwrap().insert(format!("{id} {status}"));
        for name in TOLD_HEADERS {
            let headers = whole["headers"].as_object().into_iter().flatten();
            let told = headers
                .filter(|(told, _)| told.eq_ignore_ascii_case(name))
                .count()
                == 1;
            assert_eq!(
                told,
                answer.headers.contains_key(name),
                "{id} {status}, {name}: {answer:?}"
            );
        }
        self.check_body(id, response, answer);
        if answer.status.is_success() {
            self.check_taken(id, operation, sent, answer);
        }
    }

    fn check_body(&self, id: &str, response: &Value, answer: &Answer) {
        let contents = self.resolved(response)["content"].as_object();
        let kind = answer.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap();
        let Some(contents) = contents else {
            assert!(
                answer.body.is_empty(),
                "{id}: no body is described: {answer:?}"
            );
            return;
        };
        let content = contents.get(kind);
        let content =
            content.unwrap_or_else(|| panic!("{id}: {kind} is not described: {answer:?}"));
        let schema = &content["schema"];
        match kind {
            "application/x-ndjson" => {
                for line in answer.lines() {
                    self.fits(schema, &line, id);
                }
            }
            "text/plain" => {}
            _ => {
                // Nested as deep as an event's data may be, it is too deep for this reader.
                let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
                    return;
                };
                self.fits(schema, &body, id);
                if let Some(code) = body["code"].as_str().filter(|_| kind.contains("problem")) {
                    let told = response["description"].as_str().unwrap_or_default();
                    assert!(
                        told.contains(&format!("`{code}`")),
                        "{id}: {code} is not described: {answer:?}"
                    );
                }
            }
        }
    }

    /// Checks that the description allows what was accepted.
    fn check_taken(&self, id: &str, operation: &Value, sent: &Bytes, answer: &Answer) {
        let contents = operation["requestBody"]["content"].as_object();
        let Some((kind, content)) = contents.and_then(|it| it.iter().next()) else {
            return;
        };
        let schema = &content["schema"];
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        if kind == "application/json" {
            if let Some(body) = read(sent) {
                self.fits(schema, &body, id);
            }
            return;
        }
        let lines: Vec<&[u8]> = sent.split(|byte| *byte == b'\n').collect();
        let taken = answer.lines();
        let taken = taken.iter().filter(|line| line["status"] != "rejected");
        for line in taken {
            let number = usize::try_from(line["line"].as_u64().unwrap()).unwrap();
            if let Some(event) = read(lines[number - 1]) {
                self.fits(schema, &event, id);
            }
        }
    }

    /// Fails if a value does not match a schema, given as a reference.
    #[track_caller]
    pub(crate) fn fits(&self, schema: &Value, value: &Value, what: &str) {
        let validator = self.validator(schema);
        let flaws: Vec<String> = validator
            .iter_errors(value)
            .map(|flaw| format!("{} at {:?}", flaw, flaw.instance_path().to_string()))
            .collect();
        assert!(flaws.is_empty(), "{what}: {flaws:#?} in {value}");
    }

    /// Whether a value fits its schema.
    pub(crate) fn allows(&self, schema: &Value, value: &Value) -> bool {
        self.validator(schema).is_valid(value)
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let key = schema.to_string();
        let make = || {
            let mut whole = schema.clone();
            whole["components"] = json!({"schemas": self.closed});
            let options = jsonschema::options().should_validate_formats(true);
            Arc::new(
                options
                    .build(&whole)
                    .unwrap_or_else(|flaw| panic!("{key}: {flaw}")),
            )
        };
        Arc::clone(validators.entry(key.clone()).or_insert_with(make))
    }
}

/// Allows only the described properties. A condition on properties has no type.
fn close(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.contains_key("properties") && members.contains_key("type") {
                members
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

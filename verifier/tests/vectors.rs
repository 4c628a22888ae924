//! Every case of `vectors.json` and, with the feature `ed25519`, of `vectors-v1a.json`, which are shared with every other build of the verifier. An unknown field, scheme or code fails:
//! a case must not pass because it was not understood.

#![allow(clippy::expect_used, reason = "a broken table must stop the test")]

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use stormhook_verifier::{Headers, Tolerance, VerifyError, verify_standard, verify_stormcom};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: u32,
    error_codes: BTreeSet<String>,
    #[serde(rename = "rules")]
    _rules: String,
    vectors: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    scheme: Scheme,
    secret: String,
    headers: Vec<(String, String)>,
    body_base64: String,
    now_s: u64,
    #[serde(deserialize_with = "seconds_or_null")]
    tolerance_s: Option<u64>,
    expect: String,
    #[serde(default, rename = "note")]
    _note: Option<String>,
}

/// Null is said, not left out.
fn seconds_or_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(from)
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Storm,
    Standard,
}

const HMAC: (&str, usize) = (include_str!("../vectors.json"), 147);
#[cfg(feature = "ed25519")]
const ED25519: (&str, usize) = (include_str!("../vectors-v1a.json"), 146);

/// Each table, and how many cases it has.
const TABLES: &[(&str, usize)] = &[
    HMAC,
    #[cfg(feature = "ed25519")]
    ED25519,
];

fn table(text: &str) -> Table {
    serde_json::from_str(text).expect("the table has its known form")
}

impl Case {
    fn outcome<H: Headers + ?Sized>(&self, headers: &H) -> &'static str {
        let body = Base64::decode_vec(&self.body_base64).expect("base64");
        let tolerance = self
            .tolerance_s
            .map_or(Tolerance::Unchecked, Tolerance::Seconds);
        let outcome = match self.scheme {
            Scheme::Storm => verify_stormcom(headers, &body, &self.secret),
            Scheme::Standard => {
                verify_standard(headers, &body, &self.secret, self.now_s, tolerance).map(drop)
            }
        };
        outcome.as_ref().map_or_else(VerifyError::code, |()| "ok")
    }
}

#[test]
fn every_vector_has_its_expected_outcome() {
    for (text, count) in TABLES {
        let table = table(text);
        assert_eq!(table.version, 1);
        assert_eq!(
            table.vectors.len(),
            *count,
            "a case is missing or was added"
        );
        let names: BTreeSet<&str> = table.vectors.iter().map(|case| &*case.name).collect();
        assert_eq!(names.len(), table.vectors.len(), "a name stands twice");
        let wrong: Vec<String> = table
            .vectors
            .iter()
            .filter(|case| case.outcome(&case.headers) != case.expect)
            .map(|case| {
                let found = case.outcome(&case.headers);
                format!("{}: expected {}, got {found}", case.name, case.expect)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn the_vectors_reach_every_code_they_list() {
    for (text, _) in TABLES {
        let table = table(text);
        let reached: BTreeSet<String> = table.vectors.into_iter().map(|case| case.expect).collect();
        assert_eq!(reached, table.error_codes);
    }
}

/// Without the feature a public key is refused by name, not taken for anything else.
#[cfg(not(feature = "ed25519"))]
#[test]
fn a_public_key_is_no_secret_of_this_build() {
    for case in table(include_str!("../vectors-v1a.json")).vectors {
        if case.secret.starts_with("whpk_") {
            assert_eq!(
                case.outcome(&case.headers),
                "invalid_secret",
                "{}",
                case.name
            );
        } else {
            assert_eq!(case.outcome(&case.headers), case.expect, "{}", case.name);
        }
    }
}

/// What the `http` crate would refuse (control characters) never reaches a verifier behind it.
#[cfg(feature = "http")]
#[test]
fn a_header_map_gives_the_same_outcome_as_pairs() {
    let mut compared = 0;
    let tables = TABLES.iter().flat_map(|(text, _)| table(text).vectors);
    for case in tables {
        let mut map = http::HeaderMap::new();
        let fits = case.headers.iter().all(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.as_bytes());
            let value = http::HeaderValue::from_bytes(value.as_bytes());
            name.ok().zip(value.ok()).is_some_and(|(name, value)| {
                map.append(name, value);
                true
            })
        });
        if fits {
            compared += 1;
            assert_eq!(case.outcome(&map), case.expect, "{}", case.name);
        }
    }
    assert!(
        compared > 130 * TABLES.len(),
        "only {compared} cases fit a header map"
    );
}

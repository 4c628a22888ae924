//! What the signature debugger says of the usual accidents.

#![allow(
    clippy::expect_used,
    reason = "a fixture that can't be made must stop the test"
)]

use std::collections::BTreeSet;

use stormhook_verifier::{
    BodyChange, ContentDigest, Explanation, Finding, Secret, SigningKeys, Step, StepOutcome,
    Tolerance, VerifyError, content_digest, explain, explain_with,
};

const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
const OTHER: &str = "whsec_b3RoZXItc3Rvcm1ob29rLXNlY3JldC0zMmJ5dGVzISE=";
const BODY: &[u8] = br#"{"id":"evt_1","type":"order.paid","timestamp":"2025-06-15T15:06:40.000Z","organizationId":"org_42","sequence":7,"data":{"a/b":"caf\u00e9"}}"#;
const NOW_S: u64 = 1_750_000_000;

type Pairs = Vec<(String, String)>;

fn delivery(secret: &str, body: &[u8]) -> Pairs {
    let secret = Secret::parse(secret).expect("a secret");
    let keys = SigningKeys::new([&secret]);
    let signature = keys.standard_signature("evt_1", NOW_S, body);
    [
        ("webhook-id", "evt_1".to_owned()),
        ("webhook-timestamp", NOW_S.to_string()),
        ("webhook-signature", signature.expect("a whsec_ secret")),
        ("x-stormcom-signature", keys.stormcom_signature(body)),
        ("content-digest", content_digest(body)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A body as the daemon writes it around this data.
fn body_with(data: &str) -> Vec<u8> {
    format!(r#"{{"id":"evt_1","type":"order.paid","timestamp":"2025-06-15T15:06:40.000Z","organizationId":"org_42","sequence":7,"data":{data}}}"#)
        .into_bytes()
}

fn with(mut headers: Pairs, name: &str, change: impl Fn(&str) -> String) -> Pairs {
    for (found, value) in &mut headers {
        if found == name {
            *value = change(value);
        }
    }
    headers
}

fn without(mut headers: Pairs, name: &str) -> Pairs {
    headers.retain(|(found, _)| found != name);
    headers
}

fn codes(explanation: &Explanation) -> Vec<&'static str> {
    explanation.findings.iter().map(Finding::code).collect()
}

fn codes_of(headers: &Pairs, body: &[u8], secret: &str) -> Vec<&'static str> {
    codes(&explain(headers, body, secret, NOW_S))
}

#[test]
fn a_good_delivery_leaves_nothing_to_say() {
    let explanation = explain(&delivery(SECRET, BODY), BODY, SECRET, NOW_S);
    assert_eq!(explanation.findings, []);
    assert_eq!(explanation.content_digest, ContentDigest::Fits);
    assert!(
        explanation
            .standard
            .steps()
            .all(|(_, outcome)| outcome == StepOutcome::Passed)
    );
    assert_eq!(explanation.stormcom.steps().count(), 4);
}

#[test]
fn the_digest_tells_a_wrong_secret_from_a_changed_body() {
    let headers = delivery(SECRET, BODY);
    assert_eq!(codes_of(&headers, BODY, OTHER), ["wrong_secret"]);
    let changed = body_with("{}");
    assert_eq!(codes_of(&headers, &changed, SECRET), ["body_changed"]);
    let undigested = without(headers, "content-digest");
    assert_eq!(codes_of(&undigested, BODY, OTHER), ["wrong_secret_or_body"]);
}

#[test]
fn the_steps_after_the_failed_one_are_not_reached() {
    let explanation = explain(&delivery(SECRET, BODY), BODY, SECRET, NOW_S + 301);
    assert_eq!(
        explanation.standard.failed_step(),
        Some(Step::TimestampWindow)
    );
    let outcomes: Vec<StepOutcome> = explanation.standard.steps().map(|(_, it)| it).collect();
    let too_old = VerifyError::TimestampTooOld {
        age_s: 301,
        tolerance_s: 300,
    };
    assert_eq!(
        outcomes.get(3..),
        Some(
            &[
                StepOutcome::Passed,
                StepOutcome::Failed(too_old),
                StepOutcome::NotReached,
                StepOutcome::NotReached,
            ][..]
        )
    );
    assert_eq!(codes(&explanation), ["delivery_too_old"]);
    let ahead = explain(&delivery(SECRET, BODY), BODY, SECRET, NOW_S - 999);
    assert_eq!(
        ahead.findings,
        [Finding::ClockAheadOfSender { ahead_s: 999 }]
    );
}

#[test]
fn a_body_that_was_rewritten_is_recognised() {
    let headers = delivery(SECRET, BODY);
    let spaced = br#"{"id": "evt_1", "type": "order.paid", "timestamp": "2025-06-15T15:06:40.000Z", "organizationId": "org_42", "sequence": 7, "data": {"a/b": "caf\u00e9"}}"#;
    assert_eq!(
        codes_of(&headers, spaced, SECRET),
        ["json_reserialised", "body_changed"]
    );
    let ended = [BODY, b"\n"].concat();
    assert_eq!(
        codes_of(&headers, &ended, SECRET),
        ["body_final_line_end", "body_changed"]
    );
    let marked = [b"\xEF\xBB\xBF", BODY].concat();
    assert_eq!(
        codes_of(&headers, &marked, SECRET),
        ["body_byte_order_mark", "body_changed"]
    );
    assert_eq!(
        codes_of(&headers, b"", SECRET),
        ["body_changed", "body_consumed"]
    );
    let lossy = "{\"id\":\"evt_1\",\"data\":\"\u{FFFD}\"}".as_bytes();
    assert_eq!(
        codes_of(&headers, lossy, SECRET),
        ["body_changed", "body_decoded_lossily"]
    );

    let plain = "{\"id\":\"evt_1\",\"data\":\"a/b café 😀\"}".as_bytes();
    let escaped = br#"{"id": "evt_1", "data": "a\/b caf\u00e9 \ud83d\ude00"}"#;
    let headers = delivery(SECRET, plain);
    assert_eq!(
        codes_of(&headers, escaped, SECRET),
        ["json_reserialised", "body_changed"]
    );
    let undigested = without(headers, "content-digest");
    assert_eq!(
        codes_of(&undigested, escaped, SECRET),
        ["json_reserialised"]
    );

    let lines = delivery(SECRET, b"a\nb");
    assert_eq!(
        codes_of(&lines, b"a\r\nb", SECRET),
        ["body_line_ends", "body_changed"]
    );
    let lines = delivery(SECRET, b"a\r\nb");
    assert_eq!(
        codes_of(&lines, b"a\nb", SECRET),
        ["body_line_ends", "body_changed"]
    );
}

#[test]
fn a_body_that_a_framework_wrote_anew_is_proven_where_its_data_can_be_restored() {
    // What was sent, and what came of it after the keys were sorted, or spaces and escapes lost or put in.
    let sorted = |data: &str| {
        format!(r#"{{"data":{data},"id":"evt_1","organizationId":"org_42","sequence":7,"timestamp":"2025-06-15T15:06:40.000Z","type":"order.paid"}}"#)
            .into_bytes()
    };
    for (data, received) in [
        (r#"{"a":1}"#, sorted(r#"{"a":1}"#)),
        (r#"{"a":1}"#, sorted(r#"{ "a": 1 }"#)),
        (r#""a,b}:]{[""#, sorted(r#""a,b}:]{[""#)),
        (
            r#"{"a": "\":,\\", "b": 1}"#,
            body_with(r#"{"a":"\":,\\","b":1}"#),
        ),
        (r#"{"a": "\/"}"#, body_with(r#"{"a":"\/"}"#)),
        (r#"{"a\\":"\"b\\"}"#, sorted(r#"{"a\\": "\"b\\"}"#)),
        (r#"{"a": [1, "b,c:d"]}"#, body_with(r#"{"a":[1,"b,c:d"]}"#)),
        (
            r#"{"a": "caf\u00e9 \ud83d\ude00"}"#,
            body_with(r#"{"a":"café 😀"}"#),
        ),
        (r#"{"a":"caf\u00e9"}"#, body_with(r#"{"a":"café"}"#)),
        (r#"{"a":"café/"}"#, sorted(r#"{"a": "caf\u00e9\/"}"#)),
    ] {
        let headers = delivery(SECRET, &body_with(data));
        let found = codes_of(&headers, &received, SECRET);
        assert_eq!(found, ["json_reserialised", "body_changed"], "{data}");
    }
}

#[test]
fn a_body_is_called_reserialised_by_its_envelope_and_never_by_its_data() {
    let headers = delivery(SECRET, BODY);
    for data in [
        r#"{ "spaced" : [ 1 , 2 ] }"#,
        "{\n  \"pretty\": true\n}",
        r#"{"b":1,"a":2}"#,
        r#""\u00e9\/""#,
        "null",
    ] {
        let genuine = body_with(data);
        let signed = delivery(SECRET, &genuine);
        assert_eq!(
            codes_of(&signed, &genuine, OTHER),
            ["wrong_secret"],
            "{data}"
        );
        assert_eq!(
            codes_of(&headers, &genuine, SECRET),
            ["body_changed"],
            "{data}"
        );
    }
    // The data was changed too, so that nothing can be proven.
    for envelope in [
        r#"{"type":"order.paid","id":"evt_1","timestamp":"t","organizationId":"o","sequence":7,"data":{}}"#,
        r#"{"id":"evt_1", "type":"order.paid","timestamp":"t","organizationId":"o","sequence":7,"data":{}}"#,
        r#"{"id":"evt_1","type":"order.paid","timestamp":"t","organizationId":"o","sequence":7,"data":{} }"#,
        r#"{"id":"evt_1","data":{}}"#,
    ] {
        assert_eq!(
            codes_of(&headers, envelope.as_bytes(), SECRET),
            ["body_changed", "looks_reserialised"],
            "{envelope}"
        );
    }
    for other in ["{\"hello\": 1}", "{\"id\":", "[1, 2]", "{,}", "{\"id\":1}}"] {
        assert_eq!(
            codes_of(&headers, other.as_bytes(), SECRET),
            ["body_changed"],
            "{other}"
        );
    }
}

#[test]
fn nothing_is_guessed_of_a_signature_that_was_never_looked_at() {
    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let standard = without(delivery(SECRET, BODY), "x-stormcom-signature");
    let many = ["v1,MzJgLQ4HRTOsfzETOI2btPz3Uy37TGjPv/6ghqPakFk="; 33].join(" ");
    let cases = [
        (without(standard.clone(), "webhook-id"), "missing_id"),
        (
            without(standard.clone(), "webhook-timestamp"),
            "missing_timestamp",
        ),
        (
            without(standard.clone(), "webhook-signature"),
            "missing_signature",
        ),
        (
            with(standard.clone(), "webhook-timestamp", |_| "soon".to_owned()),
            "malformed_timestamp",
        ),
        (
            with(standard.clone(), "webhook-id", |_| "a b".to_owned()),
            "malformed_id",
        ),
        (
            with(standard.clone(), "webhook-signature", |_| {
                "v2,abc".to_owned()
            }),
            "unsupported_signature",
        ),
        (
            with(standard.clone(), "webhook-signature", |_| {
                "v1,abc".to_owned()
            }),
            "malformed_signature",
        ),
        (
            with(standard, "webhook-signature", |_| many.clone()),
            "too_many_signatures",
        ),
    ];
    for (headers, code) in cases {
        for secret in [SECRET, OTHER] {
            let explanation = explain(&headers, BODY, secret, NOW_S);
            assert_eq!(explanation.standard.result.map_err(|e| e.code()), Err(code));
            assert_eq!(explanation.findings, [], "{code}");
        }
    }
    let cut = one("x-stormcom-signature", "sha256=f80e33");
    assert_eq!(codes_of(&cut, BODY, OTHER), Vec::<&str>::new());
}

#[test]
fn a_secret_that_is_none_is_not_called_the_wrong_one() {
    let headers = delivery(SECRET, BODY);
    for broken in ["whsec_", "whsec_c2hvcnQ=", "whsec_not base64!"] {
        assert_eq!(
            codes_of(&headers, BODY, broken),
            Vec::<&str>::new(),
            "{broken}"
        );
    }
    assert_eq!(
        codes_of(&headers, BODY, &format!("{SECRET} ")),
        ["secret_has_blanks"]
    );
}

#[test]
fn a_rewritten_body_under_a_wrong_secret_is_both() {
    let headers = delivery(SECRET, BODY);
    let ended = [BODY, b"\n"].concat();
    let found = codes_of(&headers, &ended, OTHER);
    assert_eq!(
        found,
        ["body_changed", "body_final_line_end", "wrong_secret"]
    );
}

#[test]
fn a_key_taken_in_the_wrong_way_is_recognised() {
    let headers = delivery(SECRET, BODY);
    assert_eq!(
        codes_of(&headers, BODY, &format!("{SECRET}\n")),
        ["secret_has_blanks"]
    );
    assert_eq!(
        codes_of(&headers, BODY, &format!("\"{SECRET}\"")),
        ["secret_has_blanks"]
    );
    // The Standard scheme accepts the secret without its prefix; only the StormCom scheme fails.
    let bare = SECRET.trim_start_matches("whsec_");
    assert_eq!(codes_of(&headers, BODY, bare), ["secret_prefix"]);
    let public = SECRET.replace("whsec_", "whpk_");
    assert!(codes_of(&headers, BODY, &public).contains(&"secret_is_public_key"));
}

/// Both codes come from the shared vectors' way of computing them: HMAC with the other key.
#[test]
fn a_sender_that_mixed_up_text_and_bytes_is_recognised() {
    let headers = [
        ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
        ("webhook-timestamp", "1750000000"),
        (
            "webhook-signature",
            "v1,MzJgLQ4HRTOsfzETOI2btPz3Uy37TGjPv/6ghqPakFk=",
        ),
    ];
    let body = br#"{"type":"order.paid","data":{"id":42}}"#;
    assert_eq!(
        codes(&explain(&headers, body, SECRET, NOW_S)),
        ["key_not_decoded"]
    );
    // The text under SECRET's base64, used as a key of the StormCom scheme.
    let decoded = Secret::parse("stormhook-example-secret-32bytes").expect("a secret");
    let signature = SigningKeys::new([&decoded]).stormcom_signature(body);
    let headers = [("x-stormcom-signature", signature)];
    assert_eq!(
        codes(&explain(&headers, body, SECRET, NOW_S)),
        ["key_decoded"]
    );
}

#[test]
fn a_signature_in_another_spelling_is_recognised() {
    let headers = delivery(SECRET, BODY);
    let upper = with(headers.clone(), "x-stormcom-signature", str::to_uppercase);
    assert_eq!(codes_of(&upper, BODY, SECRET), ["signature_respelled"]);
    let bare = with(headers.clone(), "x-stormcom-signature", |it| {
        it.replace("sha256=", "")
    });
    assert_eq!(codes_of(&bare, BODY, SECRET), ["signature_respelled"]);
    let unpadded = with(headers, "webhook-signature", |it| it.replace('=', ""));
    assert_eq!(codes_of(&unpadded, BODY, SECRET), ["signature_respelled"]);

    let body = br#"{"type":"order.paid","data":{"id":42}}"#;
    let hex = [
        ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
        ("webhook-timestamp", "1750000000"),
        (
            "webhook-signature",
            "v1,21fb196725789c53d4c39e8df9f858f9cdb29bf28212c2bf0077bb92adf33e18",
        ),
    ];
    assert_eq!(
        codes(&explain(&hex, body, SECRET, NOW_S)),
        ["hex_for_base64"]
    );
    let base64 = [(
        "x-stormcom-signature",
        "sha256=+A4zNDt2AVGb9iIrkKzUP3QY6rMjdz98BR26jlAopL0=",
    )];
    let secret = "stormhook-example-secret-32bytes";
    assert_eq!(
        codes(&explain(&base64, body, secret, NOW_S)),
        ["base64_for_hex"]
    );
}

#[test]
fn a_header_under_another_name_is_found() {
    for (from, to) in [
        ("webhook-id", "HTTP_WEBHOOK_ID"),
        ("webhook-timestamp", "svix-timestamp"),
        ("webhook-signature", "x-original-webhook-signature"),
        ("x-stormcom-signature", "x-hub-signature-256"),
    ] {
        let mut headers = delivery(SECRET, BODY);
        for (name, _) in &mut headers {
            if name == from {
                *name = to.to_owned();
            }
        }
        let explanation = explain(&headers, BODY, SECRET, NOW_S);
        let renamed = Finding::HeaderRenamed {
            expected: from.to_owned(),
            found: to.to_owned(),
        };
        assert!(
            explanation.findings.contains(&renamed),
            "{from}: {:?}",
            explanation.findings
        );
        assert!(!codes(&explanation).contains(&"wrong_secret"), "{from}");
    }
}

#[test]
fn a_header_that_is_there_has_no_other_name() {
    let mut headers = delivery(SECRET, BODY);
    headers.push((
        "x-original-webhook-signature".to_owned(),
        "v1,".to_owned() + &"A".repeat(43) + "=",
    ));
    headers.push((
        "x-hub-signature-256".to_owned(),
        format!("sha256={}", "0".repeat(64)),
    ));
    assert_eq!(codes_of(&headers, BODY, OTHER), ["wrong_secret"]);
}

#[test]
fn headers_may_be_borrowed_twice_or_be_a_header_map() {
    let mut headers = delivery(SECRET, BODY);
    for (name, _) in &mut headers {
        *name = name.replace("webhook-id", "svix-id");
    }
    let expected = explain(&headers, BODY, SECRET, NOW_S);
    assert_eq!(codes(&expected), ["header_renamed"]);
    let twice = &&headers;
    assert_eq!(explain(twice, BODY, SECRET, NOW_S), expected);
    #[cfg(feature = "http")]
    {
        let pairs = headers.iter().map(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, value.parse().expect("a value"))
        });
        let map: http::HeaderMap = pairs.collect();
        assert_eq!(explain(&map, BODY, SECRET, NOW_S), expected);
    }
}

#[test]
fn a_configured_header_and_tolerance_are_used() {
    let mut headers = delivery(SECRET, BODY);
    for (name, _) in &mut headers {
        *name = name.replace("x-stormcom-signature", "x-acme-signature");
    }
    let later_s = NOW_S + 10_000;
    let explanation = explain_with(
        &headers,
        BODY,
        SECRET,
        later_s,
        Tolerance::Unchecked,
        "X-Acme-Signature",
    );
    assert_eq!(explanation.standard.result, Ok(()));
    assert_eq!(explanation.stormcom.result, Ok(()));
    assert_eq!(explanation.findings, []);
}

#[test]
fn forms_that_tell_their_own_story_are_named() {
    let headers = delivery(SECRET, BODY);
    let millis = with(headers.clone(), "webhook-timestamp", |it| {
        format!("{it}000")
    });
    assert!(codes_of(&millis, BODY, SECRET).contains(&"timestamp_in_milliseconds"));
    let dotted = with(headers.clone(), "webhook-id", |it| format!("{it}.1"));
    assert!(codes_of(&dotted, BODY, SECRET).contains(&"dot_in_id"));
    let mut repeated = headers;
    repeated.push(("Webhook-Id".to_owned(), "evt_1".to_owned()));
    assert!(codes_of(&repeated, BODY, SECRET).contains(&"header_repeated"));
}

#[test]
fn what_fits_one_scheme_explains_the_other() {
    let headers = delivery(SECRET, BODY);
    // The secret is correct, as the Standard scheme shows, so no finding is about it.
    let zeros = format!("sha256={}", "0".repeat(64));
    let other_code = with(headers.clone(), "x-stormcom-signature", |_| zeros.clone());
    assert_eq!(codes_of(&other_code, BODY, SECRET), Vec::<&str>::new());
    // Here the misspelled one shows it.
    let zeros = format!("v1,{}=", "A".repeat(43));
    let both = with(headers, "webhook-signature", |_| zeros.clone());
    let both = with(both, "x-stormcom-signature", str::to_uppercase);
    assert_eq!(codes_of(&both, BODY, SECRET), ["signature_respelled"]);
}

#[test]
fn of_a_delivery_that_is_too_old_only_its_age_is_said() {
    let standard = without(delivery(SECRET, BODY), "x-stormcom-signature");
    let ended = [BODY, b"\n"].concat();
    let explanation = explain(&standard, &ended, SECRET, NOW_S + 301);
    assert_eq!(codes(&explanation), ["delivery_too_old"]);
}

#[test]
fn a_name_is_looked_at_up_to_128_bytes() {
    for (bytes, expected) in [(128, &["header_renamed"][..]), (129, &[])] {
        let mut headers = delivery(SECRET, BODY);
        for (name, _) in &mut headers {
            if name == "webhook-id" {
                *name = format!("{}-webhook-id", "x".repeat(bytes - 11));
            }
        }
        assert_eq!(codes_of(&headers, BODY, SECRET), expected, "{bytes} bytes");
    }
}

#[test]
fn a_timestamp_of_another_form_is_called_milliseconds_only_with_13_digits() {
    let headers = delivery(SECRET, BODY);
    for text in [
        "17500000000000",
        "0175000000",
        "1750000000.12",
        "175000000000x",
    ] {
        let changed = with(headers.clone(), "webhook-timestamp", |_| text.to_owned());
        assert_eq!(
            codes_of(&changed, BODY, SECRET),
            Vec::<&str>::new(),
            "{text}"
        );
    }
}

#[test]
fn an_explanation_says_what_failed_and_what_to_do() {
    let explanation = explain(&delivery(SECRET, BODY), BODY, SECRET, NOW_S + 301);
    let shown = explanation.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let [standard, stormcom, finding] = lines[..] else {
        panic!("{shown}");
    };
    assert!(
        standard
            .starts_with("webhook-signature: timestamp_too_old: the delivery was signed 301 s ago")
    );
    assert_eq!(stormcom, "x-stormcom-signature: ok");
    assert!(finding.starts_with("delivery_too_old: the time is further in the past than allowed"));
    assert!(finding.ends_with(" (301 s old)"));
    assert_eq!(explanation.content_digest.as_str(), "fits");
    let differs = explain(&delivery(SECRET, BODY), b"{}", SECRET, NOW_S);
    assert_eq!(differs.content_digest.as_str(), "differs");
    let absent = without(delivery(SECRET, BODY), "content-digest");
    let absent = explain(&absent, BODY, SECRET, NOW_S);
    assert_eq!(absent.content_digest.as_str(), "absent");
    let steps: Vec<&str> = explanation
        .standard
        .steps()
        .map(|(step, _)| step.as_str())
        .collect();
    assert_eq!(
        steps,
        [
            "secret",
            "headers_present",
            "id_form",
            "timestamp_form",
            "timestamp_window",
            "signature_form",
            "signature"
        ]
    );
}

#[test]
fn every_finding_says_something_of_its_own() {
    let changes = [
        BodyChange::FinalLineEnd,
        BodyChange::LineEnds,
        BodyChange::ByteOrderMark,
        BodyChange::JsonSpelling,
    ];
    let (expected, found) = ("webhook-id".to_owned(), "svix-id".to_owned());
    let others = [
        Finding::BodyChanged,
        Finding::WrongSecret,
        Finding::WrongSecretOrBody,
        Finding::LooksReserialised,
        Finding::BodyConsumed,
        Finding::BodyDecodedLossily,
        Finding::KeyNotDecoded,
        Finding::KeyDecoded,
        Finding::SecretHasBlanks,
        Finding::SecretPrefix,
        Finding::SecretIsPublicKey,
        Finding::HexForBase64,
        Finding::Base64ForHex,
        Finding::Respelled,
        Finding::ClockBehindSender { age_s: 301 },
        Finding::ClockAheadOfSender { ahead_s: 302 },
        Finding::TimestampInMilliseconds,
        Finding::HeaderRenamed { expected, found },
        Finding::HeaderRepeated { name: "webhook-id" },
        Finding::DotInId,
    ];
    let findings = changes.map(Finding::BodyRewritten);
    let findings: Vec<Finding> = findings.into_iter().chain(others).collect();
    let texts: BTreeSet<String> = findings.iter().map(Finding::to_string).collect();
    let codes: BTreeSet<&str> = findings.iter().map(Finding::code).collect();
    assert_eq!((texts.len(), codes.len()), (findings.len(), findings.len()));
    assert!(texts.iter().all(|text| text.len() > 40), "{texts:#?}");
    let ends = [
        "(301 s old)",
        "(302 s ahead)",
        "(expected `webhook-id`, found `svix-id`)",
        "(`webhook-id`)",
    ];
    for end in ends {
        assert!(texts.iter().any(|text| text.ends_with(end)), "{end}");
    }
}

#[test]
fn an_explanation_shows_neither_the_secret_nor_a_signature() {
    let right = delivery(SECRET, BODY);
    let headers = delivery(OTHER, BODY);
    let explanation = explain(&headers, BODY, SECRET, NOW_S);
    let shown = format!("{explanation} {explanation:?}");
    assert!(!shown.contains("c3Rvcm1ob29r"));
    for (_, value) in right.iter().filter(|(name, _)| name.ends_with("signature")) {
        assert!(!shown.contains(value.split_at(8).1), "{shown}");
    }
}

#[cfg(feature = "ed25519")]
mod public_keys {
    use super::{BODY, NOW_S, Pairs, SECRET, body_with, codes, codes_of, delivery, with, without};
    use stormhook_verifier::{PrivateKey, Secret, SigningKeys, StepOutcome, explain};

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed([seed; 32])
    }

    /// A delivery with only `v1a` and without the StormCom scheme.
    fn signed(body: &[u8]) -> Pairs {
        let keys = SigningKeys::with_ed25519([], [&key(1)]);
        let signature = keys.standard_signature("evt_1", NOW_S, body);
        let signature = signature.expect("a private key");
        let headers = with(delivery(SECRET, body), "webhook-signature", |_| {
            signature.clone()
        });
        without(headers, "x-stormcom-signature")
    }

    #[test]
    fn a_good_delivery_leaves_nothing_to_say() {
        let explanation = explain(&signed(BODY), BODY, &key(1).public_key(), NOW_S);
        assert_eq!(explanation.findings, []);
        let mut outcomes = explanation.standard.steps().map(|(_, outcome)| outcome);
        assert!(outcomes.all(|outcome| outcome == StepOutcome::Passed));
    }

    #[test]
    fn the_digest_tells_a_wrong_key_from_a_changed_body() {
        let (headers, right, wrong) = (signed(BODY), key(1).public_key(), key(2).public_key());
        assert_eq!(codes_of(&headers, BODY, &wrong), ["wrong_secret"]);
        let changed = body_with("{}");
        assert_eq!(codes_of(&headers, &changed, &right), ["body_changed"]);
        let undigested = without(headers, "content-digest");
        assert_eq!(
            codes_of(&undigested, BODY, &wrong),
            ["wrong_secret_or_body"]
        );
    }

    #[test]
    fn what_was_done_to_body_key_or_signature_is_proven() {
        let (headers, right) = (signed(BODY), key(1).public_key());
        let ended = [BODY, b"\n"].concat();
        assert_eq!(
            codes_of(&headers, &ended, &right),
            ["body_final_line_end", "body_changed"]
        );
        assert_eq!(
            codes_of(&headers, BODY, &format!("'{right}'\n")),
            ["secret_has_blanks"]
        );
        for change in [
            |it: &str| it.replace('=', ""),
            |it: &str| it.replace("==", "="),
            |it: &str| it.replace('+', "-").replace('/', "_").replace('=', ""),
            |it: &str| it.replace("v1a,", "v1a="),
            |it: &str| it.replace("v1a,", ""),
            |it: &str| format!("\"{it}\""),
        ] {
            let respelled = with(headers.clone(), "webhook-signature", change);
            assert_eq!(
                codes_of(&respelled, BODY, &right),
                ["signature_respelled"],
                "{respelled:?}"
            );
        }
        let mut renamed = headers;
        for (name, _) in &mut renamed {
            *name = name.replace("webhook-signature", "x-original-webhook-signature");
        }
        assert_eq!(codes_of(&renamed, BODY, &right), ["header_renamed"]);
    }

    #[test]
    fn a_public_key_is_named_only_where_it_cannot_be_used() {
        let right = key(1).public_key();
        // As the daemon sends it: both schemes, both versions.
        let secret = Secret::parse(SECRET).expect("a secret");
        let keys = SigningKeys::with_ed25519([&secret], [&key(1)]);
        let both = keys
            .standard_signature("evt_1", NOW_S, BODY)
            .expect("signed");
        let headers = with(delivery(SECRET, BODY), "webhook-signature", |_| {
            both.clone()
        });
        let explanation = explain(&headers, BODY, &right, NOW_S);
        assert_eq!(explanation.standard.result, Ok(()));
        assert_eq!(codes(&explanation), ["secret_is_public_key"]);
        let one_scheme = without(headers, "x-stormcom-signature");
        assert_eq!(codes_of(&one_scheme, BODY, &right), Vec::<&str>::new());

        // Of `v1` alone it can say nothing, whatever became of the body.
        let hmac = without(delivery(SECRET, BODY), "x-stormcom-signature");
        for body in [BODY, b"{}"] {
            assert_eq!(codes_of(&hmac, body, &right), ["secret_is_public_key"]);
        }
        // One that is no point is wrong in itself, which its own error says.
        assert_eq!(codes_of(&hmac, BODY, "whpk_AAAA"), Vec::<&str>::new());
    }
}

#[cfg(not(feature = "ed25519"))]
#[test]
fn a_public_key_is_named_where_this_build_cannot_use_it() {
    let key = "whpk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
    let headers = delivery(SECRET, BODY);
    assert_eq!(codes_of(&headers, BODY, key), ["secret_is_public_key"]);
    let one_scheme = without(headers, "x-stormcom-signature");
    assert_eq!(codes_of(&one_scheme, BODY, key), ["secret_is_public_key"]);
}

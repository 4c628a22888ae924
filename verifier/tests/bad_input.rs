//! Whatever comes in a header, a body or a secret: an error by its name, never a panic, and no work beyond the bounds.

#![allow(
    clippy::expect_used,
    reason = "a fixture that can't be made must stop the test"
)]

use stormhook_verifier::steps::PreparedKey;
use stormhook_verifier::{
    Secret, SecretError, SigningKeys, StandardVerifier, StormcomVerifier, Tolerance, VerifyError,
    explain, verify_standard, verify_stormcom,
};

const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";

fn standard(id: &str, timestamp: &str, signature: &str) -> Result<(), VerifyError> {
    let headers = [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ];
    let _ = explain(&headers, b"{}", SECRET, 1_750_000_000);
    verify_standard(&headers, b"{}", SECRET, 1_750_000_000, Tolerance::default()).map(drop)
}

#[test]
fn oversized_headers_are_refused_by_name() {
    let megabyte = "A".repeat(1 << 20);
    let good = "v1,IfsZZyV4nFPUw56N+fhY+c2ym/KCEsK/AHe7kq3zPhg=";
    assert_eq!(
        standard(&megabyte, "1750000000", good),
        Err(VerifyError::MalformedId)
    );
    assert_eq!(
        standard("evt_1", &megabyte, good),
        Err(VerifyError::MalformedTimestamp)
    );
    assert_eq!(
        standard("evt_1", "1750000000", &megabyte),
        Err(VerifyError::TooManySignatures)
    );
    let blank = " ".repeat(1 << 20);
    assert_eq!(
        standard("evt_1", "1750000000", &blank),
        Err(VerifyError::TooManySignatures)
    );
    let many = [good; 10_000].join(" ");
    assert_eq!(
        standard("evt_1", "1750000000", &many),
        Err(VerifyError::TooManySignatures)
    );
    let digits = "1".repeat(40);
    assert_eq!(
        standard("evt_1", &digits, good),
        Err(VerifyError::MalformedTimestamp)
    );
}

#[test]
fn ten_thousand_signature_lines_are_too_many() {
    let lines = vec![("x-stormcom-signature", "sha256=00"); 10_000];
    assert_eq!(
        verify_stormcom(&lines, b"", "k"),
        Err(VerifyError::TooManySignatures)
    );
    let items = vec![("x-stormcom-signature", "a"); 33];
    assert_eq!(
        verify_stormcom(&items, b"", "k"),
        Err(VerifyError::TooManySignatures)
    );
    let items = vec![("x-stormcom-signature", "a"); 32];
    assert_eq!(
        verify_stormcom(&items, b"", "k"),
        Err(VerifyError::UnsupportedSignature)
    );
}

/// A body that takes a second to hash would show in the time; here it is the order of the errors that shows it.
#[test]
fn the_checks_come_in_their_stated_order() {
    let wrong_in_all = |secret: &str| {
        let headers = [
            ("webhook-id", "a.b"),
            ("webhook-timestamp", "x"),
            ("webhook-signature", "y"),
        ];
        verify_standard(&headers, b"", secret, 0, Tolerance::default()).map(drop)
    };
    assert_eq!(
        wrong_in_all("whsec_"),
        Err(VerifyError::InvalidSecret {
            reason: "it is empty"
        })
    );
    assert_eq!(wrong_in_all(SECRET), Err(VerifyError::MalformedId));
    assert_eq!(
        standard("a.b", "x", " ,"),
        Err(VerifyError::MissingSignature)
    );
    assert_eq!(
        standard("a", "x", "y"),
        Err(VerifyError::MalformedTimestamp)
    );
    let too_old = VerifyError::TimestampTooOld {
        age_s: 1_750_000_000,
        tolerance_s: 300,
    };
    assert_eq!(standard("a", "0", "y"), Err(too_old));
    assert_eq!(standard("a", "0", &"y".repeat(5000)), Err(too_old));
    assert_eq!(
        standard("a", "1750000000", "y"),
        Err(VerifyError::UnsupportedSignature)
    );
}

#[test]
fn a_comma_that_joins_lines_is_taken_off_once_and_after_the_version_only() {
    let malformed = Err(VerifyError::MalformedSignature);
    assert_eq!(standard("a", "1750000000", "v1,"), malformed);
    assert_eq!(standard("a", "1750000000", "v1,,"), malformed);
    let zero = format!("v1,{}=", "A".repeat(43));
    assert_eq!(
        standard("a", "1750000000", &zero),
        Err(VerifyError::NoMatch)
    );
    assert_eq!(
        standard("a", "1750000000", &format!("{zero},")),
        Err(VerifyError::NoMatch)
    );
    assert_eq!(standard("a", "1750000000", &format!("{zero},,")), malformed);
    assert_eq!(
        standard("a", "1750000000", &format!("{zero} v1,x")),
        malformed
    );
    // The last character of 32 bytes holds two bits that stand for nothing.
    let stray_bits = format!("v1,{}B=", "A".repeat(42));
    assert_eq!(standard("a", "1750000000", &stray_bits), malformed);
}

#[test]
fn unusable_secrets_are_refused_when_the_verifier_is_made() {
    let code = |secret: &str| {
        StandardVerifier::new(secret)
            .err()
            .map(|error| error.code())
    };
    assert_eq!(code("whsec_garbage!!"), Some("invalid_secret"));
    assert_eq!(code(&"A".repeat(1 << 20)), Some("invalid_secret"));
    assert_eq!(code("whsec_AAAA"), Some("secret_too_short"));
    assert_eq!(code(&SECRET.replace('=', "")), None, "padding is optional");
    let none: [&str; 0] = [];
    assert!(StandardVerifier::with_secrets(none).is_err());
    assert!(StormcomVerifier::with_secrets(none).is_err());
    assert!(StormcomVerifier::with_secrets([SECRET; 17]).is_err());
    assert!(StormcomVerifier::with_secrets([SECRET; 16]).is_ok());
    assert!(StormcomVerifier::with_secrets(["good", ""]).is_err());
    assert!(StormcomVerifier::new(&"k".repeat(257)).is_err());
}

#[test]
fn the_reason_for_refusing_a_secret_is_the_true_one() {
    let reason = |error: Option<VerifyError>| match error {
        Some(VerifyError::InvalidSecret { reason }) => reason,
        _ => "",
    };
    let standard = |secret: &str| reason(StandardVerifier::new(secret).err());
    assert_eq!(standard(""), "it is empty");
    assert_eq!(standard(&whsec(256)), "");
    for bytes in [257, 258, 259, 300] {
        assert_eq!(standard(&whsec(bytes)), "it decodes to more than 256 bytes");
    }
    // Too long to be read at all, so that nothing else is said of it.
    assert_eq!(
        standard(&"!".repeat(345)),
        "it decodes to more than 256 bytes"
    );
    assert!(standard(&"!".repeat(344)).contains("standard base64"));
    let stormcom = |secret: &str| reason(StormcomVerifier::new(secret).err());
    assert_eq!(stormcom(""), "it is empty");
    assert_eq!(stormcom(&"k".repeat(257)), "it is longer than 256 bytes");
}

#[test]
fn the_api_takes_exactly_the_secrets_it_promises() {
    let code = |text: &str| Secret::parse(text).err().map(|error| error.code());
    for bytes in [24, 25, 32, 64] {
        assert_eq!(code(&whsec(bytes)), None, "{bytes} bytes");
    }
    for bytes in [0, 1, 23, 65, 66, 67, 1 << 20] {
        assert_eq!(code(&whsec(bytes)), Some("secret_length"), "{bytes} bytes");
    }
    assert_eq!(code("whsec_not base64!"), Some("secret_not_base64"));
    assert_eq!(
        code("whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_"),
        Some("secret_not_base64")
    );
    for chars in [16, 17, 256] {
        assert_eq!(code(&"~".repeat(chars)), None, "{chars} characters");
    }
    for chars in [0, 15, 257] {
        assert_eq!(
            code(&"!".repeat(chars)),
            Some("secret_length"),
            "{chars} characters"
        );
    }
    let spaced = Secret::parse("correct horse battery staple").err();
    assert_eq!(spaced, Some(SecretError::NotVisibleAscii { position: 8 }));
    assert_eq!(
        code("grüße-grüße-grüße-grüße"),
        Some("secret_not_visible_ascii")
    );
    assert_eq!(code(&format!("{SECRET}\n")), Some("secret_not_base64"));
}

#[test]
fn a_secret_that_is_too_long_to_decode_is_said_to_be_about_so_long() {
    let error = Secret::parse(&whsec(3_000)).err();
    assert_eq!(
        error,
        Some(SecretError::StandardLength { found_bytes: 3_000 })
    );
}

#[test]
fn secrets_are_the_same_by_their_text_alone() {
    let secret = |text: &str| Secret::parse(text).expect("a secret");
    assert!(secret(SECRET).is_same_as(&secret(SECRET)));
    assert!(!secret(SECRET).is_same_as(&secret(&SECRET.replace("c3R", "c3S"))));
    assert!(!secret(SECRET).is_same_as(&secret(&format!("whsec_{}", "A".repeat(32)))));
}

/// Base64 of so many zero bytes.
fn whsec(bytes: usize) -> String {
    let full = "AAAA".repeat(bytes / 3);
    let end = ["", "AA==", "AAA="]
        .get(bytes % 3)
        .copied()
        .unwrap_or_default();
    format!("whsec_{full}{end}")
}

#[test]
fn nothing_that_holds_a_key_prints_it() {
    let secret = Secret::parse(SECRET).expect("a secret");
    let keys = SigningKeys::new([&secret]);
    let verifiers = (StandardVerifier::new(SECRET), StormcomVerifier::new(SECRET));
    let shown = format!("{secret:?} {keys:?} {verifiers:?}");
    assert!(!shown.contains("c3Rvcm1"), "{shown}");
    let expected = [
        "Secret(…) SigningKeys(…) ",
        "(Ok(StandardVerifier { tolerance: Seconds(300), .. }), ",
        "Ok(StormcomVerifier { header: \"x-stormcom-signature\", .. }))",
    ];
    assert_eq!(shown, expected.concat());
    let key = PreparedKey::stormcom(SECRET.as_bytes()).expect("a key");
    let shown = format!("{key:?} {:?} {:?}", key.start(), key.start().finish());
    assert_eq!(shown, "PreparedKey(…) RunningMac(…) Tag(…)");
    let error = Secret::parse("whsec_c3Rvcm1ob29rLWV4YW1wbGU!").err();
    assert!(!format!("{error:?} {}", error.expect("refused")).contains("c3Rv"));
}

#[test]
fn no_signature_is_made_that_no_verifier_would_take() {
    let plain = Secret::parse("correct-horse-battery-staple").expect("a secret");
    let standard = Secret::parse(SECRET).expect("a secret");
    let keys = SigningKeys::new([&standard]);
    assert!(
        SigningKeys::new([&plain])
            .standard_signature("evt_1", 1, b"")
            .is_none()
    );
    assert!(keys.standard_signature("evt.1", 1, b"").is_none());
    assert!(keys.standard_signature("", 1, b"").is_none());
    assert!(
        keys.standard_signature("evt_1", 1_000_000_000_000, b"")
            .is_none()
    );
    assert!(
        keys.standard_signature("evt_1", 999_999_999_999, b"")
            .is_some()
    );
    assert_eq!(SigningKeys::new([]).stormcom_signature(b""), "");
}

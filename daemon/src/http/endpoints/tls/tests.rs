//! The settings as they are sent, and what is warned of. The black-box tests send them to the daemon.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

struct Made {
    certificate: String,
    key: String,
}

/// Returns a certificate that is valid in 2026.
fn made() -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    Made {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn parse(body: &serde_json::Value) -> Result<Option<Arc<EndpointTls>>, Problem> {
    Written(Zeroizing::new(body.to_string().into_bytes())).parse()
}

#[test]
fn each_setting_is_optional_but_a_certificate_and_its_key_go_together() {
    let (one, other) = (made(), made());
    let (certificate, key) = (&one.certificate, &one.key);
    assert_eq!(parse(&json!({})).ok(), Some(None));
    let nulls = json!({"clientCertificate": null, "clientKey": null, "caCertificate": null});
    assert_eq!(parse(&nulls).ok(), Some(None));
    let trusting = parse(&json!({"caCertificate": certificate}));
    let trusting = trusting.ok().flatten().unwrap();
    assert!(trusting.client().is_none() && trusting.trusted().len() == 1);
    let both = json!({"clientCertificate": certificate, "clientKey": key});
    let both = parse(&both).ok().flatten().unwrap();
    assert!(both.client().is_some() && both.trusted().is_empty());
    for (body, field, says) in [
        (
            json!({"clientCertificate": certificate}),
            CLIENT_KEY,
            "is required",
        ),
        (json!({"clientKey": key}), CLIENT_CERTIFICATE, "is required"),
        (
            json!({"clientCertificate": certificate, "clientKey": other.key}),
            CLIENT_KEY,
            "doesn't fit",
        ),
        (
            json!({"caCertificate": key}),
            CA_CERTIFICATE,
            "contains no certificate",
        ),
        (json!({"clientKey": 1}), CLIENT_KEY, "must be a string"),
        (json!({"cert": certificate}), "tls.cert", "cert"),
    ] {
        let problem = parse(&body).err().unwrap();
        assert_eq!(problem.field.as_deref(), Some(field), "{}", problem.detail);
        assert!(problem.detail.contains(says), "{}", problem.detail);
    }
}

#[test]
fn a_certificate_is_warned_of_before_it_is_valid_and_from_30_days_before_it_expires() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let tls = parse(&json!({"caCertificate": made().certificate}));
    let tls = tls.ok().flatten().unwrap();
    let (start, end) = (UnixMs(1_767_225_600_000), UnixMs(1_798_761_600_000));
    let before = |days: u64| UnixMs(end.0 - days * DAY_MS);
    let codes = |now: UnixMs| {
        let all = warnings(&tls, now);
        all.into_iter()
            .map(|warning| warning.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(UnixMs(start.0 - 1)), ["certificate_not_valid_yet"]);
    assert_eq!(codes(start), [""; 0]);
    assert_eq!(codes(before(30)), [""; 0]);
    assert_eq!(
        codes(UnixMs(before(30).0 + 1)),
        ["certificate_expires_soon"]
    );
    assert_eq!(codes(end), ["certificate_expires_soon"]);
    assert_eq!(codes(UnixMs(end.0 + 1)), ["certificate_expired"]);
    let said = &warnings(&tls, UnixMs(end.0 + 1))[0].detail;
    assert_eq!(
        said,
        "tls.caCertificate (CN=rcgen self signed cert) expired on 2027-01-01. Replace it."
    );
}

#[test]
fn a_servers_certificate_is_warned_of_when_it_should_have_been_renewed() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let start = UnixMs(1_767_225_600_000);
    for (lasts_days, warned_days) in [(365, 30), (90, 9), (10, 1)] {
        let validity = Validity {
            not_before: start,
            not_after: start.plus_ms(lasts_days * DAY_MS),
        };
        let from = start.plus_ms((lasts_days - warned_days) * DAY_MS);
        assert_eq!(server_warning(validity, from), None, "{lasts_days}");
        let warning = server_warning(validity, from.plus_ms(1)).unwrap();
        assert_eq!(warning.code, "server_certificate_expires_soon");
        let on = day(validity.not_after);
        assert!(warning.detail.contains(&on), "{}", warning.detail);
    }
}

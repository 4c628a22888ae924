//! An attempt's request: the body, with the same bytes on every attempt, and the headers that prove its origin.
//!
//! `data` is passed through byte for byte. Nothing is sent here, and secrets leave only as signatures.

use crate::times::rfc3339;
use crate::transport::{Destination, Transport};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use std::io::Write;
use std::sync::Arc;
use stormhook_store::endpoint::Seed;
use stormhook_store::{DeliveryId, Endpoint, Event, UnixMs};
use stormhook_verifier::{PrivateKey, SigningKeys, content_digest};

/// The value of `user-agent`.
pub const USER_AGENT_VALUE: &str = concat!("stormhook/", env!("CARGO_PKG_VERSION"));

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT: HeaderName = HeaderName::from_static("x-stormcom-event");
const ENDPOINT: HeaderName = HeaderName::from_static("x-stormcom-endpoint");
const DELIVERY: HeaderName = HeaderName::from_static("x-stormcom-delivery");
const ATTEMPT: HeaderName = HeaderName::from_static("x-stormcom-attempt");
const SEQUENCE: HeaderName = HeaderName::from_static("x-stormcom-sequence");

/// Headers that vary between attempts, and `host`.
const HEADERS: usize = 11;
/// Length of the body without `data`, the organization and the type.
const FRAME_BYTES: usize = 160;

/// Returns the body of a delivery; `None` if the event's data is past its retention.
pub fn render(event: &Event, sequence: u64) -> Option<Bytes> {
    let data = event.data.as_deref()?;
    let names = event.organization.len() + event.event_type.len();
    let mut body = Vec::with_capacity(FRAME_BYTES + names + data.len());
    // Writing to memory can't fail.
    let _ = write!(body, "{{\"id\":\"{}\",\"type\":", event.id);
    let _ = serde_json::to_writer(&mut body, &event.event_type);
    let timestamp = rfc3339(event.timestamp);
    let _ = write!(body, ",\"timestamp\":\"{timestamp}\",\"organizationId\":");
    let _ = serde_json::to_writer(&mut body, &event.organization);
    let _ = write!(body, ",\"sequence\":{sequence},\"data\":");
    body.extend_from_slice(data);
    body.push(b'}');
    Some(Bytes::from(body))
}

/// An endpoint prepared for sending: its keys parsed, its URL checked, its constant headers built. Valid for the
/// settings it was made from, and until [`Partner::until`].
#[derive(Debug, Clone)]
pub struct Partner {
    endpoint: Arc<Endpoint>,
    destination: Result<Arc<dyn Destination>, String>,
    keys: SigningKeys,
    /// Values of custom headers are marked as sensitive, so that they are never printed.
    constant: Box<[(HeaderName, HeaderValue)]>,
    signature_header: HeaderName,
    until: Option<UnixMs>,
}

/// The parts of an attempt that its headers contain.
#[derive(Debug, Clone, Copy)]
pub struct AttemptHead<'a> {
    /// The event.
    pub event: &'a Event,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The delivery's sequence number.
    pub sequence: u64,
    /// The attempt's number within the delivery, from 1.
    pub attempt: u32,
}

impl Partner {
    /// Prepares an endpoint with the secrets that are valid at `now`.
    pub fn new(
        endpoint: &Arc<Endpoint>,
        transport: &dyn Transport,
        signature_header: HeaderName,
        now: UnixMs,
    ) -> Self {
        let mut constant = HeaderMap::new();
        for (name, value) in &endpoint.headers.0 {
            // Headers were checked when they were set. One that can't be sent after all is left out, so that it doesn't
            // fail every attempt.
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
                value.set_sensitive(true);
                constant.insert(name, value);
            }
        }
        constant.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        constant.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        put(&mut constant, ENDPOINT, endpoint.id.to_string());
        let live = || endpoint.live_secrets(now);
        let seeds = live().filter_map(|live| live.seed.as_ref());
        let private: Vec<PrivateKey> = seeds.map(private_key).collect();
        Self {
            endpoint: Arc::clone(endpoint),
            destination: transport.destination(&endpoint.settings),
            keys: SigningKeys::with_ed25519(live().map(|live| &live.secret), &private),
            constant: constant
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .collect(),
            signature_header,
            until: live().filter_map(|live| live.until).min(),
        }
    }

    /// Returns where the endpoint receives.
    ///
    /// # Errors
    /// Why nothing may be sent there.
    pub fn destination(&self) -> Result<&dyn Destination, &str> {
        self.destination.as_deref().map_err(String::as_str)
    }

    /// Whether it was made from exactly these settings.
    pub fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }

    /// Returns when the next secret expires, so that the endpoint must be prepared again.
    pub fn until(&self) -> Option<UnixMs> {
        self.until
    }

    /// Returns the headers of an attempt with this body at `wall`, the current wall-clock time.
    pub fn headers(&self, head: AttemptHead<'_>, body: &[u8], wall: UnixMs) -> HeaderMap {
        let id = head.event.id.to_string();
        let timestamp_s = wall.0 / 1_000;
        let mut headers = HeaderMap::with_capacity(HEADERS + self.constant.len());
        headers.extend(self.constant.iter().cloned());
        let signature = self.keys.stormcom_signature(body);
        if !signature.is_empty() {
            put(&mut headers, self.signature_header.clone(), signature);
        }
        if let Some(signature) = self.keys.standard_signature(&id, timestamp_s, body) {
            put(&mut headers, WEBHOOK_SIGNATURE, signature);
        }
        put(&mut headers, WEBHOOK_ID, id);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp_s));
        put(&mut headers, CONTENT_DIGEST, content_digest(body));
        if let Ok(value) = HeaderValue::from_str(&head.event.event_type) {
            headers.insert(EVENT, value);
        }
        put(&mut headers, DELIVERY, head.delivery.to_string());
        headers.insert(ATTEMPT, HeaderValue::from(head.attempt));
        headers.insert(SEQUENCE, HeaderValue::from(head.sequence));
        headers
    }
}

/// Returns the key pair of a seed.
pub fn private_key(seed: &Seed) -> PrivateKey {
    PrivateKey::from_seed(*seed.expose())
}

/// Sets a header to a value made here, which is visible ASCII.
fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::transport::tests::Nowhere;
    use stormhook_store::endpoint::{CustomHeaders, LiveSecret, Settings};
    use stormhook_store::{EndpointId, EventId, Slot, Timestamp};
    use stormhook_verifier::{Secret, StandardVerifier, Tolerance};

    const WHSEC: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";

    fn event(data: &str) -> Event {
        Event {
            id: EventId::parse("evt_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            organization: "org_42".into(),
            event_type: "order.created".into(),
            timestamp: Timestamp(1_767_323_045_678),
            timestamp_text: None,
            idempotency_key: None,
            deliveries: 1,
            data: Some(data.into()),
        }
    }

    pub(crate) fn endpoint(secrets: Vec<LiveSecret>) -> Endpoint {
        let own = [("x-api-key", "hunter2"), ("content-type", "text/html")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Endpoint {
            id: EndpointId(7),
            slot: Slot(3),
            organization: "org_42".into(),
            settings: Settings {
                url: "https://partner.example/hooks?a=b".into(),
                active: true,
                headers: CustomHeaders(own.into()),
                ..Settings::default()
            },
            secrets,
            sealed: None,
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
            deleted_at: None,
        }
    }

    fn live(secret: &str, until: Option<UnixMs>) -> LiveSecret {
        LiveSecret {
            secret: Secret::parse(secret).unwrap(),
            seed: None,
            until,
        }
    }

    fn headers(endpoint: &Endpoint, wall: u64) -> (Partner, HeaderMap) {
        let name = HeaderName::from_static("x-stormcom-signature");
        let partner = Partner::new(&Arc::new(endpoint.clone()), &Nowhere, name, UnixMs(wall));
        let event = event("{}");
        let head = AttemptHead {
            event: &event,
            delivery: DeliveryId {
                event: event.id,
                slot: endpoint.slot,
            },
            sequence: 42,
            attempt: 3,
        };
        let headers = partner.headers(head, b"body", UnixMs(wall));
        (partner, headers)
    }

    #[test]
    fn the_body_has_its_keys_in_order_and_data_byte_for_byte() {
        let data =
            "{ \"a\" : 1.0e+2, \"big\":123456789012345678901234567890, \"u\":\"\\u00e9\\/\" }";
        let body = render(&event(data), 42).unwrap();
        let expected = format!(
            "{{\"id\":\"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"type\":\"order.created\",\
             \"timestamp\":\"2026-01-02T03:04:05.678Z\",\"organizationId\":\"org_42\",\"sequence\":42,\"data\":{data}}}"
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn an_event_whose_data_is_gone_has_no_body() {
        let gone = Event {
            data: None,
            ..event("null")
        };
        assert_eq!(render(&gone, 1), None);
    }

    #[test]
    fn names_are_escaped_as_json_whatever_they_hold() {
        for text in ["a\"b\\c", "\u{0}\n\r\t\u{1f}", "é\u{2028}😀"] {
            let named = Event {
                organization: text.to_owned(),
                event_type: text.to_owned(),
                ..event("null")
            };
            let body = render(&named, 1).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["organizationId"], text);
            assert_eq!(body["type"], text);
        }
    }

    #[test]
    fn an_attempt_carries_exactly_the_headers_of_the_contract() {
        let (partner, headers) = headers(&endpoint(vec![live(WHSEC, None)]), 1_750_000_000_999);
        let keys = SigningKeys::new([&Secret::parse(WHSEC).unwrap()]);
        let id = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let delivery = DeliveryId {
            event: EventId::parse(id).unwrap(),
            slot: Slot(3),
        };
        let expected = [
            ("content-digest", content_digest(b"body")),
            ("content-type", "application/json".into()),
            (
                "user-agent",
                format!("stormhook/{}", env!("CARGO_PKG_VERSION")),
            ),
            ("webhook-id", id.into()),
            (
                "webhook-signature",
                keys.standard_signature(id, 1_750_000_000, b"body").unwrap(),
            ),
            ("webhook-timestamp", "1750000000".into()),
            ("x-api-key", "hunter2".into()),
            ("x-stormcom-attempt", "3".into()),
            ("x-stormcom-delivery", delivery.to_string()),
            ("x-stormcom-endpoint", EndpointId(7).to_string()),
            ("x-stormcom-event", "order.created".into()),
            ("x-stormcom-sequence", "42".into()),
            ("x-stormcom-signature", keys.stormcom_signature(b"body")),
        ];
        let mut sent: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap().to_owned()))
            .collect();
        sent.sort();
        assert_eq!(sent, expected);
        assert_eq!(partner.until(), None);
        let shown = format!("{partner:?} {headers:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains(WHSEC),
            "{shown}"
        );
    }

    #[test]
    fn a_secret_whose_overlap_is_over_signs_no_more() {
        let both = endpoint(vec![
            live(WHSEC, None),
            live("an-older-secret-of-theirs", Some(UnixMs(9_000))),
        ]);
        let (partner, during) = headers(&both, 8_999);
        let count = |headers: &HeaderMap| {
            let value = headers["x-stormcom-signature"].to_str().unwrap().to_owned();
            value.split(',').count()
        };
        assert_eq!((count(&during), partner.until()), (2, Some(UnixMs(9_000))));
        let (partner, after) = headers(&both, 9_000);
        assert_eq!((count(&after), partner.until()), (1, None));
    }

    fn with_seed(byte: u8, live: LiveSecret) -> LiveSecret {
        LiveSecret {
            seed: Some(Seed::from_random(&[byte; 32])),
            ..live
        }
    }

    /// Returns the versions of the items of `webhook-signature`.
    fn versions(headers: &HeaderMap) -> Vec<&str> {
        let value = headers["webhook-signature"].to_str().unwrap();
        value
            .split(' ')
            .map(|item| item.split_once(',').unwrap().0)
            .collect()
    }

    #[test]
    fn each_live_key_signs_after_the_secrets_and_none_whose_overlap_is_over() {
        let endpoint = endpoint(vec![
            with_seed(2, live(WHSEC, None)),
            with_seed(1, live("an-older-secret-of-theirs", Some(UnixMs(9_000)))),
            live("one-from-before-ed25519-was-on", Some(UnixMs(9_500))),
        ]);
        let fits = |headers: &HeaderMap, byte: u8| {
            let key = PrivateKey::from_seed([byte; 32]).public_key();
            let verifier = StandardVerifier::new(&key).unwrap();
            let pairs: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect();
            let verifier = verifier.tolerance(Tolerance::Unchecked);
            verifier.verify_at(&pairs, b"body", 0).is_ok()
        };
        let (_, during) = headers(&endpoint, 8_999);
        assert_eq!(versions(&during), ["v1", "v1a", "v1a"]);
        assert!(fits(&during, 2) && fits(&during, 1) && !fits(&during, 3));
        let (_, after) = headers(&endpoint, 9_000);
        assert_eq!(versions(&after), ["v1", "v1a"]);
        assert!(fits(&after, 2) && !fits(&after, 1));
    }

    #[test]
    fn a_secret_of_the_partners_own_making_with_a_key_has_the_keys_signature_alone() {
        let own = with_seed(1, live("a-secret-of-their-own", None));
        let (partner, headers) = headers(&endpoint(vec![own]), 5_000);
        assert_eq!(versions(&headers), ["v1a"]);
        assert!(headers.contains_key("x-stormcom-signature"));
        let shown = format!("{partner:?}");
        assert!(!shown.contains("1, 1, 1"), "{shown}");
    }

    #[test]
    fn a_secret_of_the_partners_own_making_has_no_standard_signature() {
        let (_, headers) = headers(&endpoint(vec![live("a-secret-of-their-own", None)]), 5_000);
        assert!(headers.contains_key("webhook-id") && headers.contains_key("webhook-timestamp"));
        assert!(!headers.contains_key("webhook-signature"));
    }
}

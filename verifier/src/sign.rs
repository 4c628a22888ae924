//! The signing half: produces the values of both signature headers and of the digest. Never signs what this crate's own
//! verifier would refuse by its form.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use crate::form::{self, BASE64_PREFIX, HEX_PREFIX, TIMESTAMP_MAX_S};
use crate::mac::{BASE64_BYTES, HEX_BYTES, PreparedKey, sha256_base64};
#[cfg(feature = "ed25519")]
use crate::private_key::PrivateKey;
use crate::secret::Secret;

/// An endpoint's live secrets, prepared as keys once, so that signing costs no more than hashing the message.
///
/// Clones share the keys; they are wiped when the last clone is dropped.
///
/// ```
/// use stormhook_verifier::{Secret, SigningKeys};
///
/// let secret = Secret::parse("whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=")?;
/// let keys = SigningKeys::new([&secret]);
/// let body = br#"{"type":"order.paid","data":{"id":42}}"#;
/// assert!(keys.stormcom_signature(body).starts_with("sha256="));
/// let header = keys.standard_signature("evt_1", 1_750_000_000, body);
/// assert!(header.is_some_and(|value| value.starts_with("v1,")));
/// # Ok::<(), stormhook_verifier::SecretError>(())
/// ```
#[derive(Clone)]
pub struct SigningKeys(Arc<Keys>);

struct Keys {
    secrets: Box<[KeyPair]>,
    #[cfg(feature = "ed25519")]
    private: Box<[PrivateKey]>,
}

struct KeyPair {
    /// The secret's text as shown, for the StormCom scheme.
    text: PreparedKey,
    /// The bytes that its base64 decodes to, for the Standard scheme.
    decoded: Option<PreparedKey>,
}

impl SigningKeys {
    /// Accepts the secrets newest first: their signatures are in this order. Without a secret there is no signature.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        Self(Arc::new(Self::prepare(secrets)))
    }

    fn prepare<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Keys {
        let prepare = |secret: &Secret| KeyPair {
            text: PreparedKey::new(secret.expose().as_bytes()),
            decoded: secret.standard_key().map(|key| PreparedKey::new(&key)),
        };
        Keys {
            secrets: secrets.into_iter().map(prepare).collect(),
            #[cfg(feature = "ed25519")]
            private: Box::default(),
        }
    }

    /// Also accepts private keys, newest first: `webhook-signature` then has a `v1a` item for each, after those of the
    /// secrets.
    #[cfg(feature = "ed25519")]
    pub fn with_ed25519<'s>(
        secrets: impl IntoIterator<Item = &'s Secret>,
        keys: impl IntoIterator<Item = &'s PrivateKey>,
    ) -> Self {
        let Keys { secrets, .. } = Self::prepare(secrets);
        Self(Arc::new(Keys {
            secrets,
            private: keys.into_iter().cloned().collect(),
        }))
    }

    /// Returns the value of `x-stormcom-signature`: `sha256=<hex>` for each secret, joined by `,`.
    #[must_use]
    pub fn stormcom_signature(&self, body: &[u8]) -> String {
        let each_bytes = HEX_PREFIX.len() + HEX_BYTES + 1;
        let mut value = String::with_capacity(self.0.secrets.len() * each_bytes);
        for key in self.0.secrets.iter() {
            if !value.is_empty() {
                value.push(',');
            }
            value.push_str(HEX_PREFIX);
            value.push_str(key.text.tag(&[body]).hex().as_str());
        }
        value
    }

    /// Returns the value of `webhook-signature`: `v1,<base64>` for each `whsec_` secret, separated by spaces.
    ///
    /// `None` if no secret begins with `whsec_`: published libraries would decode any other as base64. Also `None` for
    /// an id or a timestamp that no verifier should accept: with a dot in the id, `{id}.{timestamp}.{body}` could be
    /// read in two ways.
    #[must_use]
    pub fn standard_signature(&self, id: &str, timestamp_s: u64, body: &[u8]) -> Option<String> {
        if !form::is_id(id.as_bytes()) || timestamp_s > TIMESTAMP_MAX_S {
            return None;
        }
        let timestamp = timestamp_s.to_string();
        let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let each_bytes = BASE64_PREFIX.len() + BASE64_BYTES + 1;
        let mut value = String::with_capacity(self.0.secrets.len() * each_bytes);
        for key in self.0.secrets.iter().filter_map(|key| key.decoded.as_ref()) {
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(BASE64_PREFIX);
            value.push_str(key.tag(&message).base64().as_str());
        }
        #[cfg(feature = "ed25519")]
        for signed in self.0.private.iter().filter_map(|key| key.sign(&message)) {
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(form::ED25519_PREFIX);
            signed.push_to(&mut value);
        }
        (!value.is_empty()).then_some(value)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

/// Returns the value of `content-digest` (RFC 9530, section 2): `sha-256=:<base64>:`. It doesn't prove who sent the
/// body, but distinguishes a body changed in transit from a wrong secret.
///
/// ```
/// let digest = stormhook_verifier::content_digest(br#"{"hello": "world"}"#);
/// assert_eq!(digest, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:");
/// ```
#[must_use]
pub fn content_digest(body: &[u8]) -> String {
    let prefix = "sha-256=:";
    let mut value = String::with_capacity(prefix.len() + BASE64_BYTES + 1);
    value.push_str(prefix);
    value.push_str(sha256_base64(body).as_str());
    value.push(':');
    value
}

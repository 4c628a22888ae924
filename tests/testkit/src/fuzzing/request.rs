//! How a fuzzer's bytes become a request: a line with the secret, lines of `name: value`, an empty line, and the body.
//! Any bytes are a request.

use stormhook_verifier::SigningKeys;

/// The time of all checks, in seconds since 1970.
pub(super) const NOW_S: u64 = 1_750_000_000;
/// A secret that the vectors use too, so that some seeds are valid.
pub(super) const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";

/// A request as a receiver has it.
pub(super) struct Request<'b> {
    pub(super) secret: String,
    pub(super) headers: Vec<(String, &'b [u8])>,
    pub(super) body: &'b [u8],
}

impl<'b> Request<'b> {
    pub(super) fn read(bytes: &'b [u8]) -> Self {
        let (secret, mut rest) = line(bytes);
        let mut headers = Vec::new();
        loop {
            let (found, after) = line(rest);
            rest = after;
            if found.is_empty() {
                break;
            }
            let colon = found.iter().position(|byte| *byte == b':');
            let (name, value) = found.split_at(colon.unwrap_or(found.len()));
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            headers.push((String::from_utf8_lossy(name).into_owned(), value));
        }
        Self {
            secret: String::from_utf8_lossy(secret).into_owned(),
            headers,
            body: rest,
        }
    }

    /// Returns the values of a header, joined as a verifier reads them.
    pub(super) fn joined(&self, name: &str) -> Vec<u8> {
        let named = |header: &&(String, &[u8])| header.0.eq_ignore_ascii_case(name);
        let values = self.headers.iter().filter(named).map(|(_, value)| *value);
        values.collect::<Vec<_>>().join(&b", "[..])
    }

    /// Whether the signature header is what the keys produce for these parts: the only reason to accept anything.
    pub(super) fn is_signed_by(&self, keys: &SigningKeys, id: &str, timestamp_s: u64) -> bool {
        let expected = keys.standard_signature(id, timestamp_s, self.body);
        let held = self.joined("webhook-signature");
        expected.is_some_and(|it| it.split(' ').any(|item| contains(&held, item.as_bytes())))
    }
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, b""),
    }
}

//! HMAC-SHA256 with a prepared key, and the two spellings of its result on the wire. Never allocates, and compares only
//! in constant time.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

/// Length of an HMAC-SHA256 in bytes.
const TAG_BYTES: usize = 32;
/// Block size of SHA-256, which a key is padded or hashed to (RFC 2104, section 2).
const BLOCK_BYTES: usize = 64;
/// A code in lowercase hex.
pub(crate) const HEX_BYTES: usize = 2 * TAG_BYTES;
/// A code in padded standard base64.
pub(crate) const BASE64_BYTES: usize = 44;

/// A key whose two block compressions are done, so that a message costs only its own. Wiped on drop by the hash's
/// `zeroize` feature, and never printed.
#[derive(Clone)]
pub struct PreparedKey(Hmac<Sha256>);

impl PreparedKey {
    /// Accepts a key of any length.
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = [0_u8; BLOCK_BYTES];
        let mut hashed = [0_u8; TAG_BYTES];
        let source = if key.len() > BLOCK_BYTES {
            hashed.copy_from_slice(&Sha256::digest(key));
            &hashed[..]
        } else {
            key
        };
        for (to, from) in block.iter_mut().zip(source) {
            *to = *from;
        }
        let prepared = Self(Hmac::new((&block).into()));
        block.zeroize();
        hashed.zeroize();
        prepared
    }

    /// Returns the code of the parts, one after the other.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut mac = self.start();
        for part in parts {
            mac.update(part);
        }
        mac.finish()
    }

    /// Starts a message that arrives in pieces.
    #[must_use]
    pub fn start(&self) -> RunningMac {
        RunningMac(self.0.clone())
    }
}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedKey(…)")
    }
}

/// An HMAC-SHA256 in progress.
pub struct RunningMac(Hmac<Sha256>);

impl RunningMac {
    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the code of all pieces, one after the other.
    #[must_use]
    pub fn finish(self) -> Tag {
        Tag(self.0.finalize().into_bytes().into())
    }
}

impl fmt::Debug for RunningMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunningMac(…)")
    }
}

/// The code of one message with one key: as good as the signature, so never printed.
pub struct Tag([u8; TAG_BYTES]);

impl From<[u8; TAG_BYTES]> for Tag {
    /// Converts a code that was computed elsewhere.
    fn from(bytes: [u8; TAG_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(…)")
    }
}

impl Tag {
    /// Returns lowercase hex, by arithmetic alone: a table index would depend on a secret.
    pub(crate) fn hex(&self) -> Text<HEX_BYTES> {
        let mut text = [0_u8; HEX_BYTES];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 0x0f]) {
                // 0 for 0..=9, all ones for 10..=15; `a` is 39 after where `9` would lead.
                let is_letter = 9_u8.wrapping_sub(nibble) >> 7;
                *digit = b'0' + nibble + 39 * is_letter;
            }
        }
        Text(text)
    }

    /// Whether decoded bytes are this code, in any spelling. For diagnosis: verifying compares text.
    pub(crate) fn is(&self, bytes: &[u8; TAG_BYTES]) -> bool {
        self.0.ct_eq(bytes).into()
    }

    /// Returns padded standard base64 (RFC 4648, section 4), in constant time.
    pub(crate) fn base64(&self) -> Text<BASE64_BYTES> {
        Text(base64_of_32(&self.0))
    }
}

/// An encoded code, for signing and for comparison when verifying.
pub(crate) struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// Returns the text, which is always ASCII.
    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether a received item has exactly this spelling. The time depends only on the lengths, which are public.
    pub(crate) fn matches(&self, received: &[u8]) -> bool {
        received.len() == N && are_same(&self.0, received).into()
    }
}

/// Compares texts of one length in words of eight bytes: each costs as much as a comparison of one byte.
fn are_same(one: &[u8], other: &[u8]) -> Choice {
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    let pairs = words.iter().zip(other_words);
    pairs.fold(rest.ct_eq(other_rest), |same, (one, other)| {
        same & u64::from_ne_bytes(*one).ct_eq(&u64::from_ne_bytes(*other))
    })
}

/// Encodes 32 bytes as 44 characters. Fixed to this length, it is a tenth of the general encoder in WebAssembly.
pub(crate) fn base64_of_32(bytes: &[u8; TAG_BYTES]) -> [u8; BASE64_BYTES] {
    let mut text = [0_u8; BASE64_BYTES];
    for (group, sextets) in bytes.chunks(3).zip(text.chunks_exact_mut(4)) {
        let byte = |at: usize| group.get(at).copied().unwrap_or_default();
        let (first, second, third) = (byte(0), byte(1), byte(2));
        let values = [
            first >> 2,
            (first << 4 | second >> 4) & 0x3f,
            (second << 2 | third >> 6) & 0x3f,
            third & 0x3f,
        ];
        sextets.copy_from_slice(&values);
    }
    // All in one loop, which compiles to vector instructions.
    for sextet in &mut text {
        *sextet = base64_digit(*sextet);
    }
    // 32 bytes leave one character of the last group without a byte.
    if let Some(padding) = text.last_mut() {
        *padding = b'=';
    }
    text
}

/// Returns the character of a value below 64, by arithmetic alone: a table index would depend on a secret.
fn base64_digit(value: u8) -> u8 {
    // From the first value of each range on, how much the difference between value and character grows.
    let step = |first: u8, by: u8| 0_u8.wrapping_sub(first.wrapping_sub(value + 1) >> 7) & by;
    (value + b'A')
        .wrapping_add(step(26, 6))
        .wrapping_sub(step(52, 75))
        .wrapping_sub(step(62, 15))
        .wrapping_add(step(63, 3))
}

/// Returns the SHA-256 of a body in base64, as in RFC 9530.
pub(crate) fn sha256_base64(body: &[u8]) -> Text<BASE64_BYTES> {
    Text(base64_of_32(&Sha256::digest(body).into()))
}

#[cfg(test)]
mod tests {
    use super::PreparedKey;

    /// No test can look at freed memory; the types guarantee that they wipe it.
    #[test]
    fn whatever_holds_a_key_is_wiped_when_dropped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
        // An `Hmac` consists of two of these.
        is_wiped::<sha2::Sha256>();
        is_wiped::<zeroize::Zeroizing<alloc::string::String>>();
        #[cfg(feature = "ed25519")]
        is_wiped::<ed25519_dalek::SigningKey>();
    }

    #[test]
    fn hmac_gives_the_codes_of_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 5] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, message, expected) in cases {
            let key = PreparedKey::new(key);
            assert_eq!(key.tag(&[message]).hex().as_str(), expected);
            let (start, end) = message.split_at(3);
            assert_eq!(key.tag(&[start, b"", end]).hex().as_str(), expected);
        }
    }
}

//! Finds which key, for which body, in which spelling makes one of the received signatures, by computing them. Bounded
//! to 32 received items of 4,096 bytes (four for `v1a`), seven keys and fifteen bodies. A signature computed here is
//! never returned.

use alloc::vec::Vec;

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use super::finding::{BodyChange, Finding};
use crate::headers::VALUE_MAX_BYTES;
use crate::items::{Grammar, Item, POINT_BYTES, Versions};
use crate::key::{Key, standard_key_bytes};
use crate::mac::PreparedKey;
use crate::public_key::PublicKey;
use crate::secret::STANDARD_PREFIX;

const ITEMS_MAX: usize = 32;
/// As many as a verifier tries.
const POINTS_MAX: usize = 4;

/// The spelling of a received item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Hex,
    Base64,
}

/// The contents of a received header, parsed as leniently as possible.
struct Guess {
    code: [u8; 32],
    spelling: Spelling,
}

/// A key that may have been used, and what its use would mean.
pub(super) struct KeyGuess {
    key: Key,
    finding: Option<Finding>,
}

/// Returns the keys that a secret's text can mean, the correct one first.
pub(super) fn keys(grammar: Grammar, secret: &str) -> Vec<KeyGuess> {
    let trimmed = secret.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let is_trimmed = trimmed != secret;
    let blanks = is_trimmed.then_some(Finding::SecretHasBlanks);
    if PublicKey::is_meant_by(trimmed) {
        // Not a secret by mistake: as an HMAC key it would be one that everybody knows.
        let usable = PublicKey::parse(trimmed).ok();
        let checks = usable.filter(|_| grammar == Grammar::Standard);
        return Vec::from_iter(checks.map(|key| KeyGuess {
            key: Key::Ed25519(key),
            finding: blanks,
        }));
    }
    let of_text = |text: &str, finding| KeyGuess {
        key: Key::Hmac(PreparedKey::new(text.as_bytes())),
        finding,
    };
    let of_base64 = |finding| {
        standard_key_bytes(trimmed.as_bytes())
            .ok()
            .map(|bytes| KeyGuess {
                key: Key::Hmac(PreparedKey::new(&bytes)),
                finding,
            })
    };
    let mut keys = Vec::new();
    match grammar {
        Grammar::Standard => {
            keys.extend(of_base64(blanks));
            keys.push(of_text(trimmed, Some(Finding::KeyNotDecoded)));
        }
        Grammar::Stormcom => {
            keys.push(of_text(secret, None));
            if is_trimmed {
                keys.push(of_text(trimmed, blanks));
            }
            let other = trimmed.strip_prefix(STANDARD_PREFIX).map_or_else(
                || {
                    let with_prefix = Zeroizing::new([STANDARD_PREFIX, trimmed].concat());
                    of_text(&with_prefix, Some(Finding::SecretPrefix))
                },
                |bare| of_text(bare, Some(Finding::SecretPrefix)),
            );
            keys.push(other);
            keys.extend(of_base64(Some(Finding::KeyDecoded)));
        }
    }
    keys
}

/// A match, and the assumptions that it needed.
pub(super) struct Fit {
    pub(super) findings: Vec<Finding>,
    pub(super) is_body_as_signed: bool,
}

/// Returns the first match, from the fewest assumptions to the most.
pub(super) fn fit(
    grammar: Grammar,
    keys: &[KeyGuess],
    value: &[u8],
    prefix: &[&[u8]],
    bodies: &[(Option<BodyChange>, &[u8])],
) -> Option<Fit> {
    let received = Received {
        codes: codes(value),
        points: points(value),
    };
    for (change, body) in bodies {
        for key in keys {
            let mut message = prefix.to_vec();
            message.push(body);
            let Some(spelling) = received.made_by(&key.key, &message) else {
                continue;
            };
            let spelled = misspelling(grammar, &key.key, spelling, value);
            let rewritten = change.map(Finding::BodyRewritten);
            let findings = [rewritten, key.finding.clone(), spelled];
            return Some(Fit {
                findings: findings.into_iter().flatten().collect(),
                is_body_as_signed: change.is_none(),
            });
        }
    }
    None
}

/// A header's signatures, in any spelling.
struct Received {
    codes: Vec<Guess>,
    points: Vec<[u8; POINT_BYTES]>,
}

impl Received {
    /// Returns the spelling of one that this key made for this message.
    fn made_by(&self, key: &Key, message: &[&[u8]]) -> Option<Spelling> {
        match key {
            Key::Hmac(_) if self.codes.is_empty() => None,
            Key::Hmac(key) => {
                let tag = key.tag(message);
                let fits = |guess: &&Guess| tag.is(&guess.code);
                self.codes.iter().find(fits).map(|guess| guess.spelling)
            }
            Key::Ed25519(key) => {
                let fits = |point: &[u8; POINT_BYTES]| key.verifies(message, point);
                self.points.iter().any(fits).then_some(Spelling::Base64)
            }
        }
    }
}

/// Returns what is wrong with the spelling of a header that holds the correct code.
fn misspelling(grammar: Grammar, key: &Key, spelling: Spelling, value: &[u8]) -> Option<Finding> {
    match (grammar, spelling) {
        (Grammar::Standard, Spelling::Hex) => Some(Finding::HexForBase64),
        (Grammar::Stormcom, Spelling::Base64) => Some(Finding::Base64ForHex),
        _ => {
            let versions = Key::versions(core::slice::from_ref(key));
            let has_exact = grammar
                .items(value, versions)
                .take(ITEMS_MAX)
                .any(|item| matches!(item, Item::Code(_) | Item::Point(_)));
            (!has_exact).then_some(Finding::Respelled)
        }
    }
}

/// Whether a value can hold a signature at all, under any header name.
pub(super) fn holds_signature(value: &[u8]) -> bool {
    !codes(value).is_empty() || !points(value).is_empty()
}

/// Whether it holds a `v1` item, which needs a secret.
pub(super) fn holds_hmac_item(value: &[u8]) -> bool {
    let versions = Versions::HMAC;
    let mut items = Grammar::Standard.items(value, versions).take(ITEMS_MAX);
    items.any(|item| matches!(item, Item::Code(_) | Item::Malformed))
}

fn codes(value: &[u8]) -> Vec<Guess> {
    pieces(value).filter_map(guess).collect()
}

/// Returns possible ed25519 signatures, as many as a verifier tries.
fn points(value: &[u8]) -> Vec<[u8; POINT_BYTES]> {
    pieces(value).filter_map(point).take(POINTS_MAX).collect()
}

/// Returns the pieces between all possible separators.
fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .get(..VALUE_MAX_BYTES.min(value.len()))
        .unwrap_or_default()
        .split(|byte| matches!(byte, b' ' | b'\t' | b',' | b';' | b'"' | b'\''))
        .filter(|item| !item.is_empty())
        .take(2 * ITEMS_MAX)
}

fn point(item: &[u8]) -> Option<[u8; POINT_BYTES]> {
    let text = item.strip_prefix(b"v1a=").unwrap_or(item);
    decoded(text)
}

/// Decodes this many bytes from base64, in either alphabet, padded or not.
fn decoded<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let mut bytes = [0_u8; N];
    let has_all = Base64Unpadded::decode(text, &mut bytes).is_ok_and(|it| it.len() == N)
        || Base64UrlUnpadded::decode(text, &mut bytes).is_ok_and(|it| it.len() == N);
    has_all.then_some(bytes)
}

fn guess(item: &[u8]) -> Option<Guess> {
    let (head, tail) = item.split_at_checked(7).unwrap_or((b"", item));
    let text = if head.eq_ignore_ascii_case(b"sha256=") {
        tail
    } else {
        item.strip_prefix(b"v1=").unwrap_or(item)
    };
    if let Some(code) = hex_code(text) {
        return Some(Guess {
            code,
            spelling: Spelling::Hex,
        });
    }
    decoded(text).map(|code| Guess {
        code,
        spelling: Spelling::Base64,
    })
}

fn hex_code(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut code = [0_u8; 32];
    for (byte, digits) in code.iter_mut().zip(text.chunks_exact(2)) {
        for digit in digits {
            let value = char::from(*digit).to_digit(16)?;
            *byte = (*byte << 4) | u8::try_from(value).ok()?;
        }
    }
    Some(code)
}

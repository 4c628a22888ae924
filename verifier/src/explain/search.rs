//! Which key, over which body, in which spelling makes one of the received signatures. Decides by computing them; bounded to 32 received items of 4,096 bytes,
//! seven keys and fifteen bodies. A signature computed here is never handed out.

use alloc::vec::Vec;

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use super::finding::{BodyChange, Finding};
use crate::headers::VALUE_MAX_BYTES;
use crate::items::{Grammar, Item, Versions};
use crate::key::standard_key_bytes;
use crate::mac::PreparedKey;
use crate::secret::STANDARD_PREFIX;

const ITEMS_MAX: usize = 32;

/// How a received item is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Hex,
    Base64,
}

/// What a received header holds, read as freely as can be.
struct Guess {
    code: [u8; 32],
    spelling: Spelling,
}

/// A key that may have been used, and what its use would mean.
pub(super) struct KeyGuess {
    key: PreparedKey,
    finding: Option<Finding>,
}

/// The keys that can be meant by a secret's text, the right one first.
pub(super) fn keys(grammar: Grammar, secret: &str) -> Vec<KeyGuess> {
    let trimmed = secret.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let is_trimmed = trimmed != secret;
    let blanks = is_trimmed.then_some(Finding::SecretHasBlanks);
    let of_text = |text: &str, finding| KeyGuess {
        key: PreparedKey::new(text.as_bytes()),
        finding,
    };
    let of_base64 = |finding| {
        standard_key_bytes(trimmed).ok().map(|bytes| KeyGuess {
            key: PreparedKey::new(&bytes),
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

/// A fit, and what had to be assumed for it.
pub(super) struct Fit {
    pub(super) findings: Vec<Finding>,
    pub(super) is_body_as_signed: bool,
}

/// The first fit, from the least assumed to the most.
pub(super) fn fit(
    grammar: Grammar,
    keys: &[KeyGuess],
    value: &[u8],
    prefix: &[&[u8]],
    bodies: &[(Option<BodyChange>, &[u8])],
) -> Option<Fit> {
    let guesses = guesses(value);
    if guesses.is_empty() {
        return None;
    }
    for (change, body) in bodies {
        for key in keys {
            let mut message = prefix.to_vec();
            message.push(body);
            let tag = key.key.tag(&message);
            let Some(guess) = guesses.iter().find(|guess| tag.is(&guess.code)) else {
                continue;
            };
            let spelled = misspelling(grammar, guess.spelling, value);
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

/// What is wrong with the spelling of a header that holds the right code.
fn misspelling(grammar: Grammar, spelling: Spelling, value: &[u8]) -> Option<Finding> {
    match (grammar, spelling) {
        (Grammar::Standard, Spelling::Hex) => Some(Finding::HexForBase64),
        (Grammar::Stormcom, Spelling::Base64) => Some(Finding::Base64ForHex),
        _ => {
            let versions = Versions {
                hmac: true,
                ed25519: false,
            };
            let has_exact = grammar
                .items(value, versions)
                .take(ITEMS_MAX)
                .any(|item| matches!(item, Item::Code(_)));
            (!has_exact).then_some(Finding::Respelled)
        }
    }
}

/// Whether a value can hold a signature at all, under whatever name it came.
pub(super) fn holds_code(value: &[u8]) -> bool {
    !guesses(value).is_empty()
}

fn guesses(value: &[u8]) -> Vec<Guess> {
    value
        .get(..VALUE_MAX_BYTES.min(value.len()))
        .unwrap_or_default()
        .split(|byte| matches!(byte, b' ' | b'\t' | b',' | b';' | b'"' | b'\''))
        .filter(|item| !item.is_empty())
        .take(2 * ITEMS_MAX)
        .filter_map(guess)
        .collect()
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
    let unpadded = text.strip_suffix(b"=").unwrap_or(text);
    let mut code = [0_u8; 32];
    let is_base64 = Base64Unpadded::decode(unpadded, &mut code).is_ok_and(|it| it.len() == 32)
        || Base64UrlUnpadded::decode(unpadded, &mut code).is_ok_and(|it| it.len() == 32);
    is_base64.then_some(Guess {
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

//! The items of the signature header, by scheme: which are of its version, which are well formed. Decides by form
//! alone, in at most 4,096 bytes and 32 items; never sees a key.

use base64ct::{Base64, Encoding};

use crate::error::VerifyError;
use crate::form::{BASE64_PREFIX, ED25519_PREFIX, HEX_PREFIX};
use crate::headers::VALUE_MAX_BYTES;
use crate::mac::{BASE64_BYTES, HEX_BYTES};

/// More items than any sender has secrets.
pub(crate) const ITEMS_MAX: usize = 32;
/// Length of an ed25519 signature in bytes (RFC 8032, section 5.1.6).
pub(crate) const POINT_BYTES: usize = 64;
/// The same in padded base64.
pub(crate) const POINT_BASE64_BYTES: usize = 88;
/// How many `v1a` items are tried at most: each costs as much as hashing 64 KiB.
const POINTS_MAX: usize = 4;

/// Which versions of signature can be checked: those of the Standard scheme that there is a key for. The StormCom
/// scheme has one, `sha256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// `v1`, and the StormCom scheme.
    pub hmac: bool,
    /// `v1a`.
    pub ed25519: bool,
}

impl Versions {
    /// `v1` and the StormCom scheme, without `v1a`.
    pub const HMAC: Self = Self {
        hmac: true,
        ed25519: false,
    };
    /// Only `v1a`.
    pub const ED25519: Self = Self {
        hmac: false,
        ed25519: true,
    };
}

/// One item, as far as its form shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'v> {
    /// An encoded HMAC, of the right length and alphabet.
    Code(&'v [u8]),
    /// An encoded ed25519 signature, of the right length and alphabet.
    Point(&'v [u8]),
    /// Of a version that can be checked, but malformed.
    Malformed,
    /// Of another version or algorithm, or of one that there is no key for.
    Unknown,
}

/// The list syntax of a scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// `sha256=<hex>`, separated by commas, spaces around them ignored (RFC 9110, section 5.6.1).
    Stormcom,
    /// `v1,<base64>`, separated by spaces; joining repeated lines leaves a comma at an item's end.
    Standard,
}

impl Grammar {
    /// Returns the items that are not empty.
    pub(crate) fn items(self, value: &[u8], versions: Versions) -> impl Iterator<Item = Item<'_>> {
        self.texts(value).map(move |text| match self {
            Self::Stormcom => stormcom_item(text),
            Self::Standard => standard_item(text, versions),
        })
    }

    /// Returns the same, as text.
    fn texts(self, value: &[u8]) -> impl Iterator<Item = &[u8]> {
        let separator = match self {
            Self::Stormcom => b',',
            Self::Standard => b' ',
        };
        let texts = value.split(move |byte| *byte == separator);
        texts.filter_map(move |text| match self {
            Self::Stormcom => Some(trim_blanks(text)).filter(|text| !text.is_empty()),
            Self::Standard => Some(text).filter(|text| !matches!(*text, b"" | b",")),
        })
    }

    /// Whether there is nothing to look at. A value that is too long to be looked at doesn't count as blank.
    pub(crate) fn is_blank(self, value: &[u8]) -> bool {
        // A value that begins with a letter begins with an item, whose end is not needed.
        let begins_with_one = value.first().is_some_and(u8::is_ascii_alphabetic);
        !begins_with_one
            && value.len() <= VALUE_MAX_BYTES
            && match self {
                Self::Stormcom => value.iter().all(|byte| matches!(byte, b',' | b' ' | b'\t')),
                Self::Standard => value
                    .split(|byte| *byte == b' ')
                    .all(|text| matches!(text, b"" | b",")),
            }
    }

    /// Returns what follows `v1,` or `sha256=`, well formed or not: comparing it with the correct code decides its form
    /// too.
    pub(crate) fn codes(self, value: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.texts(value).filter_map(move |text| match self {
            Self::Stormcom => text.strip_prefix(HEX_PREFIX.as_bytes()),
            Self::Standard => text
                .strip_prefix(BASE64_PREFIX.as_bytes())
                .map(without_comma),
        })
    }

    /// Returns the signatures to try with an ed25519 key.
    pub(crate) fn points(self, value: &[u8]) -> impl Iterator<Item = [u8; POINT_BYTES]> {
        self.items(value, Versions::ED25519)
            .take(ITEMS_MAX)
            .filter_map(|item| match item {
                Item::Point(point) => decoded(point),
                _ => None,
            })
            .take(POINTS_MAX)
    }

    /// Checks everything about the header that doesn't need the body.
    pub(crate) fn survey(self, value: &[u8], versions: Versions) -> Result<Survey, VerifyError> {
        if value.len() > VALUE_MAX_BYTES {
            return Err(VerifyError::TooManySignatures);
        }
        let mut survey = Survey::default();
        for (count, item) in self.items(value, versions).enumerate() {
            if count >= ITEMS_MAX {
                return Err(VerifyError::TooManySignatures);
            }
            match item {
                Item::Code(_) | Item::Point(_) => survey.has_wellformed = true,
                Item::Malformed => survey.has_malformed = true,
                Item::Unknown => {}
            }
        }
        match survey {
            Survey {
                has_wellformed: true,
                ..
            } => Ok(survey),
            Survey {
                has_malformed: true,
                ..
            } => Err(VerifyError::MalformedSignature),
            Survey { .. } => Err(VerifyError::UnsupportedSignature),
        }
    }
}

/// Which kinds of item a header holds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Survey {
    has_wellformed: bool,
    has_malformed: bool,
}

impl Survey {
    /// Returns the error if none matches.
    pub(crate) fn no_match(self) -> VerifyError {
        if self.has_malformed {
            VerifyError::MalformedSignature
        } else {
            VerifyError::NoMatch
        }
    }
}

fn decoded(point: &[u8]) -> Option<[u8; POINT_BYTES]> {
    let mut bytes = [0_u8; POINT_BYTES];
    Base64::decode(point, &mut bytes).ok()?.try_into().ok()
}

fn stormcom_item(text: &[u8]) -> Item<'_> {
    match text.strip_prefix(HEX_PREFIX.as_bytes()) {
        None => Item::Unknown,
        Some(code) if is_hex_code(code) => Item::Code(code),
        Some(_) => Item::Malformed,
    }
}

fn standard_item(text: &[u8], versions: Versions) -> Item<'_> {
    if versions.hmac
        && let Some(rest) = text.strip_prefix(BASE64_PREFIX.as_bytes())
    {
        let code = without_comma(rest);
        return if is_base64_code(code) {
            Item::Code(code)
        } else {
            Item::Malformed
        };
    }
    if versions.ed25519
        && let Some(rest) = text.strip_prefix(ED25519_PREFIX.as_bytes())
    {
        let point = without_comma(rest);
        return if is_base64_point(point) {
            Item::Point(point)
        } else {
            Item::Malformed
        };
    }
    Item::Unknown
}

/// Only after the version: `v1,` alone is a truncated signature, not a version without comma.
fn without_comma(rest: &[u8]) -> &[u8] {
    rest.strip_suffix(b",").unwrap_or(rest)
}

/// Trims optional whitespace (RFC 9110, section 5.6.3).
fn trim_blanks(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_blank(byte));
    let end = text.iter().rposition(|byte| !is_blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => text.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

fn is_hex_code(code: &[u8]) -> bool {
    code.len() == HEX_BYTES
        && code
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the text is padded standard base64 without excess bits, which the last character before the padding shows.
/// It is not decoded, since it is compared as text, and a second decoder would be a tenth of the WebAssembly.
fn is_base64(text: &[u8], bytes: usize, last: &[u8], padding: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let Some((end, digits)) = text.strip_suffix(padding).and_then(<[u8]>::split_last) else {
        return false;
    };
    // All of them together: a branch for each would cost more than the result.
    let are_digits = |digits: &[u8]| digits.iter().fold(true, |all, it| all & is_digit(it));
    text.len() == bytes && are_digits(digits) && last.contains(end)
}

/// Whether the text is base64 of 32 bytes.
fn is_base64_code(code: &[u8]) -> bool {
    is_base64(code, BASE64_BYTES, b"AEIMQUYcgkosw048", b"=")
}

/// Whether the text is base64 of 64 bytes.
fn is_base64_point(point: &[u8]) -> bool {
    is_base64(point, POINT_BASE64_BYTES, b"AQgw", b"==")
}

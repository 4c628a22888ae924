//! The signature header's items, one scheme each: which are of its version, which have its exact form.
//! Decides by form alone, in at most 4,096 bytes and 32 items; never sees a key.

use base64ct::{Base64, Encoding};

use crate::error::VerifyError;
use crate::headers::VALUE_MAX_BYTES;
use crate::mac::{BASE64_BYTES, HEX_BYTES};
use crate::sign::{BASE64_PREFIX, HEX_PREFIX};

/// More items than any sender has live secrets.
const ITEMS_MAX: usize = 32;

/// One item, as far as its form tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'v> {
    /// The encoded code, of the right length and alphabet.
    Wellformed(&'v [u8]),
    /// Of this version, but not its form.
    Malformed,
    /// Of another version or algorithm.
    Unknown,
}

/// How a scheme writes its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// `sha256=<hex>`, separated by commas, spaces around them ignored (RFC 9110, section 5.6.1).
    Stormcom,
    /// `v1,<base64>`, separated by spaces; joining repeated lines leaves a comma at an item's end.
    Standard,
}

impl Grammar {
    /// The items that are not empty.
    pub(crate) fn items(self, value: &[u8]) -> impl Iterator<Item = Item<'_>> {
        let separator = match self {
            Self::Stormcom => b',',
            Self::Standard => b' ',
        };
        value
            .split(move |byte| *byte == separator)
            .filter_map(move |text| match self {
                Self::Stormcom => stormcom_item(text),
                Self::Standard => standard_item(text),
            })
    }

    /// Whether there is nothing to look at. What is too long to be looked at is something.
    pub(crate) fn is_blank(self, value: &[u8]) -> bool {
        value.len() <= VALUE_MAX_BYTES && self.items(value).next().is_none()
    }

    /// Everything about the header that can be told before a byte of the body is hashed.
    pub(crate) fn survey(self, value: &[u8]) -> Result<Survey, VerifyError> {
        if value.len() > VALUE_MAX_BYTES {
            return Err(VerifyError::TooManySignatures);
        }
        let mut survey = Survey::default();
        for (count, item) in self.items(value).enumerate() {
            if count >= ITEMS_MAX {
                return Err(VerifyError::TooManySignatures);
            }
            match item {
                Item::Wellformed(_) => survey.has_wellformed = true,
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
    /// What to answer when none matches.
    pub(crate) fn no_match(self) -> VerifyError {
        if self.has_malformed {
            VerifyError::MalformedSignature
        } else {
            VerifyError::NoMatch
        }
    }
}

fn stormcom_item(text: &[u8]) -> Option<Item<'_>> {
    let text = trim_blanks(text);
    if text.is_empty() {
        return None;
    }
    Some(match text.strip_prefix(HEX_PREFIX.as_bytes()) {
        None => Item::Unknown,
        Some(code) if is_hex_code(code) => Item::Wellformed(code),
        Some(_) => Item::Malformed,
    })
}

fn standard_item(text: &[u8]) -> Option<Item<'_>> {
    if matches!(text, b"" | b",") {
        return None;
    }
    let Some(rest) = text.strip_prefix(BASE64_PREFIX.as_bytes()) else {
        return Some(Item::Unknown);
    };
    // Only after the version: `v1,` alone is a signature cut short, not a version without comma.
    let code = rest.strip_suffix(b",").unwrap_or(rest);
    Some(if is_base64_code(code) {
        Item::Wellformed(code)
    } else {
        Item::Malformed
    })
}

/// Optional whitespace of RFC 9110, section 5.6.3.
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

/// Decoding refuses other alphabets, missing padding, and bits that no byte of the code stands for.
fn is_base64_code(code: &[u8]) -> bool {
    let mut bytes = [0_u8; 33];
    code.len() == BASE64_BYTES
        && Base64::decode(code, &mut bytes).is_ok_and(|decoded| decoded.len() == 32)
}

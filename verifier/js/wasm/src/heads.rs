//! The common parts of the verifying builds: the layout of the shared memory, and outcomes as numbers.

use stormhook_verifier::VerifyError;
use stormhook_verifier::steps::StandardHead;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::shared::Shared;

/// How many keys stay prepared; JavaScript registers whose they are.
pub(crate) const KEYS: usize = 16;
/// Room for headers: JavaScript truncates an id, a timestamp and the signatures one byte after their bounds.
const HEAD_BYTES: usize = 8 << 10;
/// Room for a piece of the body.
const BODY_BYTES: usize = 64 << 10;

/// The memory that JavaScript writes to.
pub(crate) struct Memory {
    pub(crate) head: [u8; HEAD_BYTES],
    pub(crate) body: [u8; BODY_BYTES],
}

pub(crate) static MEMORY: Shared<Memory> = Shared::new(Memory {
    head: [0; HEAD_BYTES],
    body: [0; BODY_BYTES],
});

/// Returns where headers and keys are written.
#[wasm_bindgen]
pub fn head_at() -> *mut u8 {
    MEMORY.with(|memory| memory.head.as_mut_ptr())
}

/// Returns where the body is written.
#[wasm_bindgen]
pub fn body_at() -> *mut u8 {
    MEMORY.with(|memory| memory.body.as_mut_ptr())
}

/// Returns the number of an outcome: 0 for success.
pub(crate) fn number<T>(result: Result<T, VerifyError>) -> u32 {
    match result {
        Ok(_) => 0,
        Err(VerifyError::InvalidSecret { .. }) => 1,
        Err(VerifyError::SecretTooShort { .. }) => 2,
        Err(VerifyError::MissingId) => 3,
        Err(VerifyError::MissingTimestamp) => 4,
        Err(VerifyError::MissingSignature) => 5,
        Err(VerifyError::MalformedId) => 6,
        Err(VerifyError::MalformedTimestamp) => 7,
        Err(VerifyError::TimestampTooOld { .. }) => 8,
        Err(VerifyError::TimestampTooNew { .. }) => 9,
        Err(VerifyError::MalformedSignature) => 10,
        Err(VerifyError::UnsupportedSignature) => 11,
        Err(VerifyError::TooManySignatures) => 12,
        Err(_) => 13,
    }
}

/// Splits the headers of the Standard scheme, which follow one another.
pub(crate) fn split(
    head: &[u8],
    id_bytes: usize,
    timestamp_bytes: usize,
    signature_bytes: usize,
) -> StandardHead<'_, '_> {
    let (id, rest) = head.split_at_checked(id_bytes).unwrap_or_default();
    let (timestamp, rest) = rest.split_at_checked(timestamp_bytes).unwrap_or_default();
    let signatures = rest.get(..signature_bytes).unwrap_or_default();
    StandardHead {
        id,
        timestamp,
        signatures,
    }
}

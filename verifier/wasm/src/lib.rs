//! The verifier for JavaScript, as functions of numbers over one shared piece of memory: no text and no object crosses over, so nothing is
//! copied twice and no allocator is linked. Decides nothing itself: every answer is `stormhook_verifier`'s, as a code of [`code_of`].
//!
//! The build without features is for HMAC, `ed25519` adds what `v1a` takes. JavaScript writes headers to [`head_at`] and the body, piece by piece, to [`body_at`], then calls.

#![cfg(target_arch = "wasm32")]
#![no_std]

#[cfg(feature = "explain")]
pub mod explanation;
#[cfg(feature = "ed25519")]
pub mod points;
mod shared;

#[cfg(feature = "explain")]
extern crate alloc;

use stormhook_verifier::steps::{PreparedKey, RunningMac, Signatures, StandardHead, Tag, Versions};
use stormhook_verifier::{Tolerance, VerifyError};
use wasm_bindgen::prelude::wasm_bindgen;

use shared::Shared;

/// Room for the headers: an id and a timestamp are cut by JavaScript at a byte over their bounds, the signatures at 4,097.
const HEAD_BYTES: usize = 8 << 10;
/// Room for a piece of the body.
const BODY_BYTES: usize = 64 << 10;
/// Keys that stay prepared; JavaScript keeps the book of whose they are.
const KEYS: usize = 16;

#[cfg(feature = "explain")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Verifying needs no memory but its own.
#[cfg(not(feature = "explain"))]
#[global_allocator]
static ALLOCATOR: shared::NoMemory = shared::NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

struct State {
    head: [u8; HEAD_BYTES],
    body: [u8; BODY_BYTES],
    keys: [Option<PreparedKey>; KEYS],
    mac: Option<RunningMac>,
}

static STATE: Shared<State> = Shared::new(State {
    head: [0; HEAD_BYTES],
    body: [0; BODY_BYTES],
    keys: [const { None }; KEYS],
    mac: None,
});

/// Where the headers are written.
#[wasm_bindgen]
pub fn head_at() -> *mut u8 {
    STATE.with(|state| state.head.as_mut_ptr())
}

/// Where the body is written.
#[wasm_bindgen]
pub fn body_at() -> *mut u8 {
    STATE.with(|state| state.body.as_mut_ptr())
}

/// The number of an outcome: 0 for success.
fn code_of<T>(result: Result<T, VerifyError>) -> u32 {
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

/// The versions of signature that there are keys for: 1 for `v1`, 2 for `v1a`.
fn versions_of(bits: u32) -> Versions {
    Versions {
        hmac: bits & 1 != 0,
        ed25519: cfg!(feature = "ed25519") && bits & 2 != 0,
    }
}

/// Prepares the key of a secret whose text stands at the head, and wipes the text.
#[wasm_bindgen]
pub fn prepare(slot: usize, is_standard: bool, text_bytes: usize) -> u32 {
    STATE.with(|state| {
        let text = state.head.get_mut(..text_bytes).unwrap_or_default();
        let secret = core::str::from_utf8(text).unwrap_or_default();
        let key = if is_standard {
            PreparedKey::standard(secret)
        } else {
            PreparedKey::stormcom(secret)
        };
        text.fill(0);
        let key = match key {
            Ok(key) => key,
            Err(error) => return code_of::<()>(Err(error)),
        };
        if let Some(place) = state.keys.get_mut(slot) {
            *place = Some(key);
        }
        0
    })
}

fn split(
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

/// Checks the headers of scheme B, which stand at the head one after the other, and begins a code with the key.
/// A tolerance below 0 is none.
#[wasm_bindgen]
pub fn begin_standard(
    slot: usize,
    id_bytes: usize,
    timestamp_bytes: usize,
    signature_bytes: usize,
    versions: u32,
    now_s: f64,
    tolerance_s: f64,
) -> u32 {
    STATE.with(|state| {
        let head = split(&state.head, id_bytes, timestamp_bytes, signature_bytes);
        let tolerance = if tolerance_s < 0.0 {
            Tolerance::Unchecked
        } else {
            Tolerance::Seconds(tolerance_s as u64)
        };
        if let Err(error) = head.check(versions_of(versions), now_s as u64, tolerance) {
            return code_of::<()>(Err(error));
        }
        state.mac = state.keys.get(slot).and_then(Option::as_ref).map(|key| {
            let mut mac = key.start();
            for part in head.prefix() {
                mac.update(part);
            }
            mac
        });
        0
    })
}

/// Checks the header of scheme A, which stands at the head, and begins a code with the key.
#[wasm_bindgen]
pub fn begin_stormcom(slot: usize, signature_bytes: usize) -> u32 {
    STATE.with(|state| {
        let value = state.head.get(..signature_bytes).unwrap_or_default();
        if let Err(error) = Signatures::stormcom(value) {
            return code_of::<()>(Err(error));
        }
        state.mac = state
            .keys
            .get(slot)
            .and_then(Option::as_ref)
            .map(PreparedKey::start);
        0
    })
}

/// Takes a piece of the body.
#[wasm_bindgen]
pub fn update(piece_bytes: usize) {
    STATE.with(|state| {
        if let Some(mac) = &mut state.mac {
            mac.update(state.body.get(..piece_bytes).unwrap_or_default());
        }
    });
}

/// Compares the code with the signatures at the head.
#[wasm_bindgen]
pub fn finish(at: usize, signature_bytes: usize, is_standard: bool) -> u32 {
    STATE.with(|state| {
        let tag = match state.mac.take() {
            Some(mac) => mac.finish(),
            None => return 13,
        };
        compare(&state.head, at, signature_bytes, is_standard, &tag)
    })
}

/// The same for a code that was computed elsewhere and stands at the body.
#[wasm_bindgen]
pub fn finish_with(at: usize, signature_bytes: usize, is_standard: bool) -> u32 {
    STATE.with(|state| {
        let Some(bytes) = state.body.first_chunk::<32>() else {
            return 13;
        };
        compare(
            &state.head,
            at,
            signature_bytes,
            is_standard,
            &Tag::from(*bytes),
        )
    })
}

fn compare(head: &[u8], at: usize, bytes: usize, is_standard: bool, tag: &Tag) -> u32 {
    let value = head
        .get(at..)
        .and_then(|rest| rest.get(..bytes))
        .unwrap_or_default();
    let signatures = if is_standard {
        Signatures::standard(value, versions_of(1))
    } else {
        Signatures::stormcom(value)
    };
    match signatures {
        Ok(signatures) if signatures.hold(tag) => 0,
        Ok(signatures) => code_of::<()>(Err(signatures.refusal())),
        Err(error) => code_of::<()>(Err(error)),
    }
}

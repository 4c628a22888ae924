//! Everything that takes a header and an HMAC: both schemes' heads, `sha256=` and `v1`. JavaScript writes headers to [`head_at`] and the
//! body, piece by piece, to [`body_at`], then calls.

use stormhook_verifier::Tolerance;
use stormhook_verifier::steps::{PreparedKey, RunningMac, Signatures, Tag};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::heads::{BODY_BYTES, HEAD_BYTES, KEYS, number, split, versions};
use crate::shared::Shared;

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

/// Where headers and secrets are written.
#[wasm_bindgen]
pub fn head_at() -> *mut u8 {
    STATE.with(|state| state.head.as_mut_ptr())
}

/// Where the body is written.
#[wasm_bindgen]
pub fn body_at() -> *mut u8 {
    STATE.with(|state| state.body.as_mut_ptr())
}

/// Prepares the key of a secret whose text stands at the head, and wipes the text.
#[wasm_bindgen]
pub fn prepare(slot: usize, is_standard: bool, text_bytes: usize) -> u32 {
    STATE.with(|state| {
        let text = state.head.get_mut(..text_bytes).unwrap_or_default();
        let key = if is_standard {
            PreparedKey::standard(text)
        } else {
            PreparedKey::stormcom(text)
        };
        text.fill(0);
        let place = state.keys.get_mut(slot);
        number(key.map(|key| place.map(|place| *place = Some(key))))
    })
}

/// Checks the headers of scheme B, which stand at the head one after the other, and begins a code with the key, where there is one in this
/// slot. A tolerance below 0 is none.
#[wasm_bindgen]
pub fn begin_standard(
    slot: usize,
    id_bytes: usize,
    timestamp_bytes: usize,
    signature_bytes: usize,
    version_bits: u32,
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
        let checked = head.check(versions(version_bits), now_s as u64, tolerance);
        state.mac = state.keys.get(slot).and_then(Option::as_ref).map(|key| {
            let mut mac = key.start();
            for part in head.prefix() {
                mac.update(part);
            }
            mac
        });
        number(checked)
    })
}

/// Checks the header of scheme A, which stands at the head, and begins a code with the key, where there is one in this slot.
#[wasm_bindgen]
pub fn begin_stormcom(slot: usize, signature_bytes: usize) -> u32 {
    STATE.with(|state| {
        let value = state.head.get(..signature_bytes).unwrap_or_default();
        let key = state.keys.get(slot).and_then(Option::as_ref);
        state.mac = key.map(PreparedKey::start);
        number(Signatures::stormcom(value))
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

/// Compares the code with the signatures, which stand at the head from this byte on.
#[wasm_bindgen]
pub fn finish(at: usize, signature_bytes: usize, is_standard: bool, version_bits: u32) -> u32 {
    STATE.with(|state| {
        let tag = state.mac.take().map(RunningMac::finish);
        compare(
            &state.head,
            at,
            signature_bytes,
            is_standard,
            version_bits,
            tag,
        )
    })
}

/// The same for a code that was computed elsewhere and stands at the body, which is wiped.
#[wasm_bindgen]
pub fn finish_with(at: usize, signature_bytes: usize, is_standard: bool, version_bits: u32) -> u32 {
    STATE.with(|state| {
        let tag = state
            .body
            .first_chunk_mut::<32>()
            .map(|code| Tag::from(core::mem::take(code)));
        compare(
            &state.head,
            at,
            signature_bytes,
            is_standard,
            version_bits,
            tag,
        )
    })
}

/// Without a code nothing fits.
fn compare(
    head: &[u8],
    at: usize,
    signature_bytes: usize,
    is_standard: bool,
    version_bits: u32,
    tag: Option<Tag>,
) -> u32 {
    let value = head.get(at..).and_then(|rest| rest.get(..signature_bytes));
    let value = value.unwrap_or_default();
    let signatures = if is_standard {
        Signatures::checked_standard(value, versions(version_bits))
    } else {
        Signatures::checked_stormcom(value)
    };
    match tag {
        Some(tag) if signatures.hold(&tag) => 0,
        _ => number::<()>(Err(signatures.refusal())),
    }
}

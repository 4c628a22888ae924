//! `v1a` alone: one signature after the other is checked with one public key after the other, the body streamed anew for each. The headers
//! were checked before, by the other build.

use stormhook_verifier::steps::{PublicKey, RunningCheck, Signatures};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::heads::{BODY_BYTES, HEAD_BYTES, KEYS, number, split, versions};
use crate::shared::Shared;

struct State {
    head: [u8; HEAD_BYTES],
    body: [u8; BODY_BYTES],
    keys: [Option<PublicKey>; KEYS],
    check: Option<RunningCheck>,
}

static STATE: Shared<State> = Shared::new(State {
    head: [0; HEAD_BYTES],
    body: [0; BODY_BYTES],
    keys: [const { None }; KEYS],
    check: None,
});

/// Where headers and keys are written.
#[wasm_bindgen]
pub fn head_at() -> *mut u8 {
    STATE.with(|state| state.head.as_mut_ptr())
}

/// Where the body is written.
#[wasm_bindgen]
pub fn body_at() -> *mut u8 {
    STATE.with(|state| state.body.as_mut_ptr())
}

/// Takes a public key whose text stands at the head.
#[wasm_bindgen]
pub fn prepare(slot: usize, text_bytes: usize) -> u32 {
    STATE.with(|state| {
        let text = state.head.get(..text_bytes).unwrap_or_default();
        let key = PublicKey::parse(core::str::from_utf8(text).unwrap_or_default());
        let place = state.keys.get_mut(slot);
        number(key.map(|key| place.map(|place| *place = Some(key))))
    })
}

/// Begins to check the signature of this number with the key, and says whether there is one.
#[wasm_bindgen]
pub fn begin(
    slot: usize,
    point: usize,
    id_bytes: usize,
    timestamp_bytes: usize,
    signature_bytes: usize,
) -> bool {
    STATE.with(|state| {
        let head = split(&state.head, id_bytes, timestamp_bytes, signature_bytes);
        let signatures = Signatures::checked_standard(head.signatures, versions(2));
        let Some(point) = signatures.points().nth(point) else {
            return false;
        };
        let key = state.keys.get(slot).and_then(Option::as_ref);
        state.check = key.and_then(|key| key.start(&point));
        for part in head.prefix() {
            if let Some(check) = &mut state.check {
                check.update(part);
            }
        }
        true
    })
}

/// Takes a piece of the body.
#[wasm_bindgen]
pub fn update(piece_bytes: usize) {
    STATE.with(|state| {
        if let Some(check) = &mut state.check {
            check.update(state.body.get(..piece_bytes).unwrap_or_default());
        }
    });
}

/// Whether the signature is the key's.
#[wasm_bindgen]
pub fn finish() -> bool {
    STATE.with(|state| state.check.take().is_some_and(RunningCheck::finish))
}

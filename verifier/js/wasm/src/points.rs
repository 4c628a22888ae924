//! Only `v1a`: each signature is checked with each public key, and the body is streamed again for each. The headers
//! have been checked by the other build.

use stormhook_verifier::steps::{PublicKey, RunningCheck, Signatures, Versions};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::heads::{KEYS, MEMORY, Memory, number, split};
use crate::shared::Shared;

struct State {
    keys: [Option<PublicKey>; KEYS],
    check: Option<RunningCheck>,
}

static STATE: Shared<State> = Shared::new(State {
    keys: [const { None }; KEYS],
    check: None,
});

/// Prepares a public key whose text is in the head area.
#[wasm_bindgen]
pub fn prepare(slot: usize, text_bytes: usize) -> u32 {
    MEMORY.with(|Memory { head, .. }| {
        let text = head.get(..text_bytes).unwrap_or_default();
        let key = PublicKey::parse(core::str::from_utf8(text).unwrap_or_default());
        STATE.with(|state| {
            let place = state.keys.get_mut(slot);
            number(key.map(|key| place.map(|place| *place = Some(key))))
        })
    })
}

/// Starts to check the signature with this number with the key, and returns whether there is one.
#[wasm_bindgen]
pub fn begin(
    slot: usize,
    point: usize,
    id_bytes: usize,
    timestamp_bytes: usize,
    signature_bytes: usize,
) -> bool {
    MEMORY.with(|Memory { head, .. }| {
        let head = split(head, id_bytes, timestamp_bytes, signature_bytes);
        let signatures = Signatures::checked_standard(head.signatures, Versions::ED25519);
        let Some(point) = signatures.points().nth(point) else {
            return false;
        };
        STATE.with(|state| {
            let key = state.keys.get(slot).and_then(Option::as_ref);
            state.check = key.and_then(|key| key.start(&point));
            if let Some(check) = &mut state.check {
                head.prefix().iter().for_each(|part| check.update(part));
            }
        });
        true
    })
}

/// Adds a piece of the body.
#[wasm_bindgen]
pub fn update(piece_bytes: usize) {
    MEMORY.with(|Memory { body, .. }| {
        STATE.with(|state| {
            if let Some(check) = &mut state.check {
                check.update(body.get(..piece_bytes).unwrap_or_default());
            }
        });
    });
}

/// Whether the signature is valid for the key.
#[wasm_bindgen]
pub fn finish() -> bool {
    STATE.with(|state| state.check.take().is_some_and(RunningCheck::finish))
}

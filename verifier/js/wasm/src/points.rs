//! `v1a` alone: one signature after the other is checked with one public key after the other, the body streamed anew for each. The headers
//! were checked before, by the other build.

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

/// Takes a public key whose text stands at the head.
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

/// Begins to check the signature of this number with the key, and says whether there is one.
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

/// Takes a piece of the body.
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

/// Whether the signature is the key's.
#[wasm_bindgen]
pub fn finish() -> bool {
    STATE.with(|state| state.check.take().is_some_and(RunningCheck::finish))
}

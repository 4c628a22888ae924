//! `v1a`: one signature after the other is checked with one public key after the other, the body streamed anew for each.

use stormhook_verifier::steps::{PublicKey, RunningCheck, Signatures};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::shared::Shared;
use crate::{KEYS, STATE, code_of, split, versions_of};

struct Points {
    keys: [Option<PublicKey>; KEYS],
    check: Option<RunningCheck>,
}

static POINTS: Shared<Points> = Shared::new(Points {
    keys: [const { None }; KEYS],
    check: None,
});

/// Takes a public key, whose text stands at the head.
#[wasm_bindgen]
pub fn prepare_public(slot: usize, text_bytes: usize) -> u32 {
    STATE.with(|state| {
        let text = state.head.get(..text_bytes).unwrap_or_default();
        let key = core::str::from_utf8(text).unwrap_or_default();
        match PublicKey::parse(key) {
            Ok(key) => POINTS.with(|points| {
                if let Some(place) = points.keys.get_mut(slot) {
                    *place = Some(key);
                }
                0
            }),
            Err(error) => code_of::<()>(Err(error)),
        }
    })
}

/// Begins to check the signature of this number with the key, and says whether there is such a one.
#[wasm_bindgen]
pub fn begin_point(
    slot: usize,
    number: usize,
    id_bytes: usize,
    timestamp_bytes: usize,
    signature_bytes: usize,
) -> bool {
    STATE.with(|state| {
        let head = split(&state.head, id_bytes, timestamp_bytes, signature_bytes);
        let Ok(signatures) = Signatures::standard(head.signatures, versions_of(2)) else {
            return false;
        };
        let Some(point) = signatures.points().nth(number) else {
            return false;
        };
        POINTS.with(|points| {
            points.check = points
                .keys
                .get(slot)
                .and_then(Option::as_ref)
                .and_then(|key| key.start(&point));
            for part in head.prefix() {
                if let Some(check) = &mut points.check {
                    check.update(part);
                }
            }
        });
        true
    })
}

/// Takes a piece of the body.
#[wasm_bindgen]
pub fn update_point(piece_bytes: usize) {
    STATE.with(|state| {
        POINTS.with(|points| {
            if let Some(check) = &mut points.check {
                check.update(state.body.get(..piece_bytes).unwrap_or_default());
            }
        });
    });
}

/// Whether the signature is the key's.
#[wasm_bindgen]
pub fn finish_point() -> bool {
    POINTS.with(|points| points.check.take().is_some_and(RunningCheck::finish))
}

//! Everything that needs a header and an HMAC: both schemes' heads, `sha256=` and `v1`. JavaScript writes headers and secrets to the
//! head area and the body, piece by piece, to the body area, then calls.

use stormhook_verifier::steps::{PreparedKey, RunningMac, Signatures, Tag, Versions};
use stormhook_verifier::{Tolerance, VerifyError};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::heads::{KEYS, MEMORY, Memory, number, split};
use crate::shared::Shared;

struct State {
    keys: [Option<PreparedKey>; KEYS],
    mac: Option<RunningMac>,
}

static STATE: Shared<State> = Shared::new(State {
    keys: [const { None }; KEYS],
    mac: None,
});

/// Prepares the key of a secret whose text is in the head area, and wipes the text.
#[wasm_bindgen]
pub fn prepare(slot: usize, is_standard: bool, text_bytes: usize) -> u32 {
    MEMORY.with(|Memory { head, .. }| {
        let text = head.get_mut(..text_bytes).unwrap_or_default();
        let key = if is_standard {
            PreparedKey::standard(text)
        } else {
            PreparedKey::stormcom(text)
        };
        text.fill(0);
        STATE.with(|state| {
            let place = state.keys.get_mut(slot);
            number(key.map(|key| place.map(|place| *place = Some(key))))
        })
    })
}

/// Checks the headers of the Standard scheme, which stand at the head one after the other, and begins a code with the key, where there is one in this
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
    MEMORY.with(|Memory { head, .. }| {
        let head = split(head, id_bytes, timestamp_bytes, signature_bytes);
        let tolerance = if tolerance_s < 0.0 {
            Tolerance::Unchecked
        } else {
            Tolerance::Seconds(tolerance_s as u64)
        };
        let checked = head.check(versions(version_bits), now_s as u64, tolerance);
        begin(slot, &head.prefix(), checked)
    })
}

/// Checks the header of the StormCom scheme, which stands at the head, and begins a code with the key, where there is one in this slot.
#[wasm_bindgen]
pub fn begin_stormcom(slot: usize, signature_bytes: usize) -> u32 {
    MEMORY.with(|Memory { head, .. }| {
        let value = head.get(..signature_bytes).unwrap_or_default();
        begin(slot, &[], Signatures::stormcom(value))
    })
}

/// Nothing is hashed if the headers are refused.
fn begin(slot: usize, prefix: &[&[u8]], checked: Result<Signatures<'_>, VerifyError>) -> u32 {
    STATE.with(|state| {
        let key = state.keys.get(slot).and_then(Option::as_ref);
        state.mac = key.filter(|_| checked.is_ok()).map(PreparedKey::start);
        if let Some(mac) = &mut state.mac {
            prefix.iter().for_each(|part| mac.update(part));
        }
        number(checked)
    })
}

/// Adds a piece of the body.
#[wasm_bindgen]
pub fn update(piece_bytes: usize) {
    MEMORY.with(|Memory { body, .. }| {
        STATE.with(|state| {
            if let Some(mac) = &mut state.mac {
                mac.update(body.get(..piece_bytes).unwrap_or_default());
            }
        });
    });
}

/// Compares the code with the signatures, which are in the head area from this byte on. Without a code nothing matches. A code that was
/// computed elsewhere is in the body area, and is wiped.
#[wasm_bindgen]
pub fn finish(
    at: usize,
    signature_bytes: usize,
    is_standard: bool,
    version_bits: u32,
    is_elsewhere: bool,
) -> u32 {
    MEMORY.with(|Memory { head, body }| {
        let tag = if is_elsewhere {
            let code = body.first_chunk_mut::<32>().map(core::mem::take);
            code.map(Tag::from)
        } else {
            let mac = STATE.with(|state| state.mac.take());
            mac.map(RunningMac::finish)
        };
        let value = head
            .get(at..)
            .and_then(|rest| rest.get(..signature_bytes))
            .unwrap_or_default();
        let signatures = if is_standard {
            Signatures::checked_standard(value, versions(version_bits))
        } else {
            Signatures::checked_stormcom(value)
        };
        match tag {
            Some(tag) if signatures.hold(&tag) => 0,
            _ => number::<()>(Err(signatures.refusal())),
        }
    })
}

/// Returns the versions of signature that there are keys for: 1 for `v1`, 2 for `v1a`.
fn versions(bits: u32) -> Versions {
    Versions {
        hmac: bits & 1 != 0,
        ed25519: bits & 2 != 0,
    }
}

//! Checking in a stream against `verify_strict`, which is the measure, over signatures of every kind that can be made or bent.

#![cfg(feature = "ed25519")]
#![allow(
    clippy::expect_used,
    reason = "a fixture that can't be made must stop the test"
)]

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use proptest::prelude::*;
use stormhook_verifier::steps::PublicKey;

/// The order of the base point (RFC 8032, section 5.1), lowest byte first.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// What is done to a signature.
#[derive(Debug, Clone)]
enum Change {
    Nothing,
    Bit(usize),
    AddOrder,
    /// `R` is a point of small order, or a spelling of one that isn't canonical.
    SmallR(u8),
    Random([u8; 32], [u8; 32]),
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Nothing),
        (0_usize..512).prop_map(Change::Bit),
        Just(Change::AddOrder),
        any::<u8>().prop_map(Change::SmallR),
        (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(r, s)| Change::Random(r, s)),
    ]
}

fn changed(mut signature: [u8; 64], change: &Change) -> [u8; 64] {
    let (r, s) = signature.split_at_mut(32);
    match change {
        Change::Nothing => {}
        Change::Bit(at) => signature[at / 8] ^= 1 << (at % 8),
        Change::AddOrder => {
            let mut carry = 0;
            for (byte, more) in s.iter_mut().zip(L) {
                let sum = u16::from(*byte) + u16::from(more) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
        }
        Change::SmallR(which) => {
            let (lowest, rest, highest) = match which % 6 {
                0 => (0, 0, 0),
                1 => (1, 0, 0),
                2 => (0xec, 0xff, 0x7f),
                3 => (0xed, 0xff, 0x7f),
                4 => (0xee, 0xff, 0x7f),
                _ => (1, 0, 0x80),
            };
            r.fill(rest);
            r[0] = lowest;
            r[31] = highest;
        }
        Change::Random(new_r, new_s) => {
            r.copy_from_slice(new_r);
            s.copy_from_slice(new_s);
        }
    }
    signature
}

fn streamed(key: &PublicKey, pieces: &[&[u8]], signature: &[u8; 64]) -> bool {
    let Some(mut check) = key.start(signature) else {
        return false;
    };
    for piece in pieces {
        check.update(piece);
    }
    check.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_stream_agrees_with_verify_strict(
        seed: [u8; 32],
        message in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..300,
        change in changes(),
    ) {
        let signing = SigningKey::from_bytes(&seed);
        let whpk = format!("whpk_{}", Base64::encode_string(signing.verifying_key().as_bytes()));
        let key = PublicKey::parse(&whpk).expect("a key");
        let signature = changed(signing.sign(&message).to_bytes(), &change);
        let strict = signing.verifying_key().verify_strict(&message, &Signature::from_bytes(&signature));
        let (start, end) = message.split_at(cut.min(message.len()));
        prop_assert_eq!(streamed(&key, &[start, end], &signature), strict.is_ok());
        prop_assert_eq!(strict.is_ok(), matches!(change, Change::Nothing));
    }

    #[test]
    fn any_32_bytes_are_a_key_for_both_or_for_neither(bytes: [u8; 32], signature in any::<[[u8; 32]; 2]>()) {
        let whpk = format!("whpk_{}", Base64::encode_string(&bytes));
        let ours = PublicKey::parse(&whpk);
        let theirs = VerifyingKey::from_bytes(&bytes);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            let signature: [u8; 64] = signature.concat().try_into().expect("64 bytes");
            let strict = theirs.verify_strict(b"x", &Signature::from_bytes(&signature));
            prop_assert_eq!(streamed(&ours, &[b"x"], &signature), strict.is_ok());
        }
    }
}

//! The text of an API key: a prefix, 256 random bits in base 62, and a checksum, by which scanners for leaked secrets
//! recognize it without asking anyone.

use sha2::{Digest, Sha256};
use stormhook_store::api_key::KeyDigest;
use zeroize::Zeroizing;

/// What every key begins with.
pub(super) const PREFIX: &str = "shk_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is more than 2^256.
const DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;

/// Returns the text of a key with these random bits.
pub(super) fn key_text(random: &[u8; 32]) -> Zeroizing<String> {
    let mut number = Zeroizing::new(*random);
    let mut digits = Zeroizing::new([0; DIGITS]);
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET.get(divide(&mut number)).copied().unwrap_or(b'0');
    }
    let random = digits.iter().copied().map(char::from);
    let mut text: Zeroizing<String> = Zeroizing::new(PREFIX.chars().chain(random).collect());
    let checksum = checksum(&text);
    text.push_str(&checksum);
    text
}

/// Divides a number in base 256 by 62, and returns the remainder.
fn divide(number: &mut [u8; 32]) -> usize {
    let mut rest = 0_usize;
    for byte in number.iter_mut() {
        let dividend = rest * 256 + usize::from(*byte);
        *byte = u8::try_from(dividend / 62).unwrap_or(u8::MAX);
        rest = dividend % 62;
    }
    rest
}

/// Returns the CRC-32 of a text, in base 62.
fn checksum(text: &str) -> String {
    let mut number = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        let at = usize::try_from(number % 62).unwrap_or(0);
        *digit = ALPHABET.get(at).copied().unwrap_or(b'0');
        number /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// Returns the digest of a key, if the text has the form of one.
pub(super) fn digest(text: &str) -> Option<KeyDigest> {
    let is_key = text.starts_with(PREFIX)
        && text.len() == PREFIX.len() + DIGITS + CHECKSUM_DIGITS
        && text.is_ascii();
    let (key, sum) = text.split_at_checked(text.len().checked_sub(CHECKSUM_DIGITS)?)?;
    (is_key && checksum(key) == sum).then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_its_bits_in_base_62_and_a_checksum() {
        let least = key_text(&[0; 32]);
        assert_eq!(&least[..47], format!("shk_{}", "0".repeat(43)));
        let greatest = key_text(&[0xFF; 32]);
        // 2^256 - 1.
        assert_eq!(
            &greatest[4..47],
            "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"
        );
        assert_eq!(greatest.len(), 53);
        let mut one = [0; 32];
        one[31] = 62;
        assert!(key_text(&one)[..47].ends_with("10"));
    }

    #[test]
    fn a_changed_key_is_no_key() {
        let key = key_text(&[7; 32]);
        assert!(digest(&key).is_some());
        for at in 0..key.len() {
            let mut bytes = key.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'z' { b'y' } else { b'z' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(digest(&changed), None, "{at}");
        }
        for text in ["", "shk_", "shk_é", &key[..52], &format!("{}0", *key)] {
            assert_eq!(digest(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn different_bits_make_different_keys(one: [u8; 32], other: [u8; 32]) {
            let (first, second) = (key_text(&one), key_text(&other));
            prop_assert_eq!(*first == *second, one == other);
            prop_assert_eq!(digest(&first) == digest(&second), one == other);
        }
    }
}

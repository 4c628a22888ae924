//! Points in time, and the ids of events, endpoints and deliveries with their text forms.
//!
//! An id is parsed once, at the edge; a malformed one is `None` and reads as "not found". Nothing here reads a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Returns this time plus `ms` milliseconds, saturating.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns how many milliseconds `self` is after `earlier`; 0 if it is before.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The current time, by the store's two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The store's time, used for accepting, due times and counting. Jumps ahead with the wall clock.
    pub at: UnixMs,
    /// The paced time, used for expiry. Never jumps; if the store's time did, it follows.
    pub paced: UnixMs,
}

impl From<UnixMs> for Now {
    /// Both clocks the same, if no clock ever jumped.
    fn from(at: UnixMs) -> Self {
        Self { at, paced: at }
    }
}

/// The time that a producer gave its event: milliseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

impl From<UnixMs> for Timestamp {
    fn from(at: UnixMs) -> Self {
        Self(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}

/// Crockford's base 32, the alphabet of ULIDs.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn digit(byte: u8) -> Option<u128> {
    let upper = byte.to_ascii_uppercase();
    let at = ALPHABET.iter().position(|&c| c == upper)?;
    u128::try_from(at).ok()
}

fn write_base32(out: &mut fmt::Formatter<'_>, value: u128, digits: u32) -> fmt::Result {
    for place in (0..digits).rev() {
        let index = usize::try_from((value >> (place * 5)) & 31).unwrap_or(0);
        let symbol = ALPHABET.get(index).copied().unwrap_or(b'0');
        fmt::Write::write_char(out, char::from(symbol))?;
    }
    Ok(())
}

/// Parses 26 digits of base 32 into 128 bits; the first digit holds three of them.
fn read_ulid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 26 || !matches!(bytes.first(), Some(b'0'..=b'7')) {
        return None;
    }
    bytes
        .iter()
        .try_fold(0u128, |acc, &b| Some((acc << 5) | digit(b)?))
}

/// Returns a ULID whose first 48 bits are `at` and whose other 80 are from `random`.
fn ulid(at: UnixMs, random: u128) -> u128 {
    (u128::from(at.0 & 0xFFFF_FFFF_FFFF) << 80) | (random & ((1 << 80) - 1))
}

/// An event's id, `evt_` and a ULID. Its order is the order of acceptance.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EventId(pub u128);

impl EventId {
    /// Returns the smallest id of the millisecond `at`.
    pub fn first_of(at: UnixMs) -> Self {
        Self(ulid(at, 0))
    }

    /// Returns the id that follows `last` at the time `now`: in `now`'s millisecond, unless the clock stands still or
    /// went back.
    pub fn following(last: Self, now: UnixMs, random: u128) -> Self {
        let fresh = ulid(now, random);
        if fresh > last.0 {
            Self(fresh)
        } else {
            // A random step, so that ids of one millisecond can't be guessed from each other.
            Self(last.0.saturating_add(1 + (random & 0xFFFF_FFFF)))
        }
    }

    /// Returns when the event was accepted.
    pub fn accepted_at(self) -> UnixMs {
        UnixMs(u64::try_from(self.0 >> 80).unwrap_or(u64::MAX))
    }

    /// Parses `evt_…`.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("evt_").and_then(read_ulid).map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("evt_")?;
        write_base32(f, self.0, 26)
    }
}

/// An endpoint's id, `ep_` and a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub u128);

impl EndpointId {
    /// Returns a new id for the time `now`.
    pub fn new(now: UnixMs, random: u128) -> Self {
        Self(ulid(now, random))
    }

    /// Parses `ep_…`.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("ep_").and_then(read_ulid).map(Self)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ep_")?;
        write_base32(f, self.0, 26)
    }
}

/// An API key's id, `key_` and a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ApiKeyId(pub u128);

impl ApiKeyId {
    /// Returns a new id for the time `now`.
    pub fn new(now: UnixMs, random: u128) -> Self {
        Self(ulid(now, random))
    }

    /// Parses `key_…`.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("key_").and_then(read_ulid).map(Self)
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key_")?;
        write_base32(f, self.0, 26)
    }
}

/// An audit entry's id: a ULID. Its order is the order of the changes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct AuditId(pub u128);

impl AuditId {
    /// Returns the smallest id of the millisecond `at`.
    pub fn first_of(at: UnixMs) -> Self {
        Self(ulid(at, 0))
    }

    /// Returns the id that follows `last` at the time `now`.
    pub fn following(last: Self, now: UnixMs, random: u128) -> Self {
        Self(EventId::following(EventId(last.0), now, random).0)
    }

    /// Returns when the change was made.
    pub fn at(self) -> UnixMs {
        EventId(self.0).accepted_at()
    }
}

/// The short number of an endpoint in keys. Never reused in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u32);

impl Slot {
    /// Returns the slot as an index into a table of endpoints.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A delivery: one event to one endpoint. The pair is its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    /// The event.
    pub event: EventId,
    /// The endpoint.
    pub slot: Slot,
}

impl DeliveryId {
    /// Parses `dlv_` and 32 digits: 160 bits, the event's 128 and the slot's 32.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("dlv_")?.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let (high, low) = digits.split_at(16);
        let half = |part: &[u8]| {
            part.iter()
                .try_fold(0u128, |acc, &b| Some((acc << 5) | digit(b)?))
        };
        let (high, low) = (half(high)?, half(low)?);
        let slot = u32::try_from(low & 0xFFFF_FFFF).ok()?;
        Some(Self {
            event: EventId((high << 48) | (low >> 32)),
            slot: Slot(slot),
        })
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dlv_")?;
        write_base32(f, self.event.0 >> 48, 16)?;
        let low = ((self.event.0 & 0xFFFF_FFFF_FFFF) << 32) | u128::from(self.slot.0);
        write_base32(f, low, 16)
    }
}

/// Names a key of secrets: the first four bytes of its SHA-256, shown as 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    /// Parses 8 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_id = text.len() == 8 && text.bytes().all(is_hex);
        let number = u32::from_str_radix(text, 16).ok().filter(|_| is_id)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_reads_back_from_its_text(event: u128, slot: u32) {
            let id = DeliveryId { event: EventId(event), slot: Slot(slot) };
            prop_assert_eq!(DeliveryId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(EventId::parse(&id.event.to_string()), Some(id.event));
            let endpoint = EndpointId(event);
            prop_assert_eq!(EndpointId::parse(&endpoint.to_string()), Some(endpoint));
        }
    }

    #[test]
    fn an_id_follows_the_last_one_even_when_the_clock_goes_back() {
        let last = EventId::first_of(UnixMs(1_000));
        let back = EventId::following(last, UnixMs(10), 7);
        assert!(back > last);
        assert_eq!(
            EventId::following(last, UnixMs(2_000), 7).accepted_at(),
            UnixMs(2_000)
        );
    }

    #[test]
    fn a_malformed_id_is_none() {
        for text in [
            "",
            "evt_",
            "evt_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "ep_01",
            "evt_01ARZ3NDEKTSV4RRFFQ69G5FAU!",
        ] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
        assert_eq!(
            DeliveryId::parse("dlv_IIIIIIIIIIIIIIIIIIIIIIIIIIIIIIII"),
            None
        );
    }
}

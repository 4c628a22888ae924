//! What a receiver learns of a delivery that is what its sender signed.

/// What a delivery's signature vouches for beside the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "drop repeats by `id`: a delivery may come more than once"]
pub struct Verified<'h> {
    /// The event's id, the same on every attempt: drop what you have seen.
    pub id: &'h str,
    /// Unix seconds at which this attempt was signed.
    pub timestamp_s: u64,
}

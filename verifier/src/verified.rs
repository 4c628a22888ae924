//! What a receiver learns from a genuine delivery.

/// What a delivery's signature covers in addition to the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "detect repeats by `id`: a delivery may arrive more than once"]
pub struct Verified<'h> {
    /// The event's id, the same on every attempt. Skip ids that you have already processed.
    pub id: &'h str,
    /// When this attempt was signed, in Unix seconds.
    pub timestamp_s: u64,
}

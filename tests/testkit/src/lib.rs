//! What the tests of more than one crate start from. Decides nothing of what they promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that can't go on fails"
)]

pub mod fuzzing;
pub mod smoke;

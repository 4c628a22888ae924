//! Helpers that the tests of several crates share. It makes no assertions about their guarantees.

#![allow(
    missing_docs,
    clippy::len_without_is_empty,
    clippy::should_implement_trait,
    reason = "these are test helpers, and their names say what they are"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that can't go on fails"
)]

pub mod disk;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod random;
pub mod samples;
pub mod smoke;

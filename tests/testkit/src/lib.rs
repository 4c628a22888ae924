//! What the tests of more than one crate start from. Decides nothing of what they promise.

#![allow(
    missing_docs,
    clippy::len_without_is_empty,
    clippy::should_implement_trait,
    reason = "it has what tests use, and nothing is added where a name says it"
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

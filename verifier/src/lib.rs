//! Sign and verify stormhook deliveries.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod error;
mod explain;
mod form;
mod headers;
mod items;
mod key;
mod mac;
mod secret;
mod sequence;
mod sign;
mod verify;

pub use error::VerifyError;
pub use explain::{
    BodyChange, ContentDigest, Explanation, Finding, SchemeReport, Step, StepOutcome, explain,
    explain_with,
};
pub use headers::Headers;
pub use secret::{Secret, SecretError};
pub use sequence::{Observed, RANGES_MAX, RangesError, SequenceTracker};
pub use sign::{SigningKeys, content_digest};
pub use verify::{
    STORMCOM_HEADER, StandardVerifier, StormcomVerifier, Tolerance, Verified, verify_standard,
    verify_stormcom,
};

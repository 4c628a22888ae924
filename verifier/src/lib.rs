//! Sign and verify stormhook deliveries.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod error;
mod form;
mod headers;
mod items;
mod key;
mod mac;
mod secret;
mod sign;
mod verify;

pub use error::VerifyError;
pub use headers::Headers;
pub use secret::{Secret, SecretError};
pub use sign::{SigningKeys, content_digest};
pub use verify::{
    STORMCOM_HEADER, StandardVerifier, StormcomVerifier, Tolerance, Verified, verify_standard,
    verify_stormcom,
};

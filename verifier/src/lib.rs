//! Sign and verify stormhook deliveries.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod form;
mod mac;
mod secret;
mod sign;

pub use secret::{Secret, SecretError};
pub use sign::{SigningKeys, content_digest};

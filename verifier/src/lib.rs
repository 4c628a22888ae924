//! Sign and verify stormhook deliveries: the wire, and nothing but it. One crate for sender and receiver, so that they can't drift.
//! It does no I/O, never panics on input, and reads a clock in one function alone, which the `std` feature adds.
//!
//! # A receiver in three lines
//!
//! ```
//! use stormhook_verifier::StandardVerifier;
//!
//! # fn receive(headers: &[(&str, &str)], raw_body: &[u8]) -> Result<(), stormhook_verifier::VerifyError> {
//! let verifier = StandardVerifier::new("whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=")?; // once, at start
//! let verified = verifier.verify(headers, raw_body)?; // for each request, before parsing
//! println!("{} is genuine; drop it if this id came before", verified.id);
//! # Ok(())
//! # }
//! # assert!(receive(&[], b"").is_err());
//! ```
//!
//! The body is the bytes as received. Parsed and written again they are other bytes, and no signature fits.
//!
//! # Two schemes
//!
//! | | [`StandardVerifier`] | [`StormcomVerifier`] |
//! | --- | --- | --- |
//! | header | `webhook-signature`, `webhook-id`, `webhook-timestamp` | `x-stormcom-signature` |
//! | form | `v1,<base64>` ([Standard Webhooks 1.0](https://www.standardwebhooks.com)) | `sha256=<hex>` |
//! | key | the bytes under the base64 after `whsec_` | the secret's text as shown, `whsec_` included |
//! | covers | id, time and body | the body alone: a replay passes |
//!
//! During a rotation the sender signs with every live secret: `webhook-signature` is a list separated by spaces, `x-stormcom-signature` one
//! separated by commas. A receiver may have several secrets too, for [`StandardVerifier::with_secrets`]. Any that fits is success.
//!
//! # With a web framework
//!
//! With the feature `http`, an `http::HeaderMap` is [`Headers`], which is what axum and hyper hold. Whole receivers, run against the daemon by
//! its tests, are in the repository: `examples/consumer-axum`, `examples/consumer-actix`, `examples/consumer-hyper`.
//!
//! ```text
//! // axum: `Bytes` is the raw body; extractors such as `Json` would consume it.
//! async fn hook(State(verifier): State<Arc<StandardVerifier>>, headers: HeaderMap, body: Bytes) -> StatusCode {
//!     match verifier.verify(&headers, &body) {
//!         Ok(verified) => { /* drop repeats of verified.id, then parse body */ StatusCode::NO_CONTENT }
//!         Err(_) => StatusCode::UNAUTHORIZED,
//!     }
//! }
//!
//! // hyper: collect the body with a limit first.
//! let (parts, body) = request.into_parts();
//! let body = Limited::new(body, 1 << 20).collect().await?.to_bytes();
//! let verified = verifier.verify(&parts.headers, &body)?;
//!
//! // actix-web has a header map of its own: hand over the pairs.
//! let pairs: Vec<(&str, &[u8])> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
//! let verified = verifier.verify(&pairs, &body)?;
//! ```
//!
#![cfg_attr(feature = "http", doc = "The same on a header map as it runs:\n")]
#![cfg_attr(feature = "http", doc = "```")]
#![cfg_attr(
    feature = "http",
    doc = "let mut headers = http::HeaderMap::new();\nheaders.insert(\"x-stormcom-signature\", \"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\".parse()?);\nstormhook_verifier::verify_stormcom(&headers, b\"Hello, World!\", \"It's a Secret to Everybody\")?;\n# Ok::<(), Box<dyn std::error::Error>>(())"
)]
#![cfg_attr(feature = "http", doc = "```\n")]
//! # What else
//!
//! [`SequenceTracker`] tells whether deliveries are missing, [`explain`] why one is refused, [`SigningKeys`] signs,
//! [`Secret`] is what an endpoint is given.
//!
//! # Bounds
//!
//! A signature header is read up to 4,096 bytes and 32 items, an id up to 256 bytes, a timestamp up to 12 digits, a secret up to 256 bytes,
//! and a verifier holds up to 16. Checking a delivery works on the stack, at most 4,096 bytes of it for a header in several lines; memory is
//! allocated when a verifier is made. [`explain`] copies a body of up to 1 MiB at most eight times.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod encoded;
mod error;
mod explain;
mod form;
mod headers;
mod items;
mod key;
mod mac;
#[cfg(feature = "ed25519")]
mod private_key;
mod public_key;
mod secret;
mod sequence;
mod sign;
pub mod steps;
mod tolerance;
mod verified;
mod verify;

pub use error::VerifyError;
pub use explain::{
    BodyChange, ContentDigest, Explanation, Finding, SchemeReport, Step, StepOutcome, explain,
    explain_with,
};
pub use headers::Headers;
#[cfg(feature = "ed25519")]
pub use private_key::PrivateKey;
pub use secret::{Secret, SecretError};
pub use sequence::{Observed, RANGES_MAX, RangesError, SequenceTracker};
pub use sign::{SigningKeys, content_digest};
pub use tolerance::Tolerance;
pub use verified::Verified;
pub use verify::{
    STORMCOM_HEADER, StandardVerifier, StormcomVerifier, verify_standard, verify_stormcom,
};

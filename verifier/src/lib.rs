//! Sign and verify stormhook deliveries: the wire format and nothing else. One crate for sender and receiver, so that
//! they can't diverge. It does no I/O, never panics on input, and reads a clock in one function only, which the `std`
//! feature adds.
//!
//! # A receiver in three lines
//!
//! ```
//! use stormhook_verifier::StandardVerifier;
//!
//! # fn receive(headers: &[(&str, &str)], raw_body: &[u8]) -> Result<(), stormhook_verifier::VerifyError> {
//! let verifier = StandardVerifier::new("whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=")?; // once, at startup
//! let verified = verifier.verify(headers, raw_body)?; // for each request, before parsing
//! println!("{} is genuine; skip it if you have already processed this id", verified.id);
//! # Ok(())
//! # }
//! # assert!(receive(&[], b"").is_err());
//! ```
//!
//! The body is the bytes as received. After parsing and serializing again they are different bytes, which no signature
//! matches.
//!
//! # Two schemes
//!
//! | | [`StandardVerifier`] | [`StormcomVerifier`] |
//! | --- | --- | --- |
//! | header | `webhook-signature`, `webhook-id`, `webhook-timestamp` | `x-stormcom-signature` |
//! | form | `v1,<base64>` ([Standard Webhooks 1.0](https://www.standardwebhooks.com)) | `sha256=<hex>` |
//! | key | the bytes that the base64 after `whsec_` decodes to | the secret's text as shown, including `whsec_` |
//! | covers | id, time and body | only the body: a replayed request passes |
//!
//! During a rotation the sender signs with every live secret: `webhook-signature` is a space-separated list,
//! `x-stormcom-signature` a comma-separated one. A receiver may have several secrets too, with
//! [`StandardVerifier::with_secrets`]. One match is enough.
//!
//! # With a web framework
//!
//! With the feature `http`, an `http::HeaderMap` implements [`Headers`], which axum and hyper use. Complete receivers,
//! which the daemon's tests run, are in the repository: `examples/consumer-axum`, `examples/consumer-actix`,
//! `examples/consumer-hyper`.
//!
//! ```text
//! // axum: `Bytes` is the raw body; extractors such as `Json` would consume it.
//! async fn hook(State(verifier): State<Arc<StandardVerifier>>, headers: HeaderMap, body: Bytes) -> StatusCode {
//!     match verifier.verify(&headers, &body) {
//!         Ok(verified) => { /* skip repeats of verified.id, then parse body */ StatusCode::NO_CONTENT }
//!         Err(_) => StatusCode::UNAUTHORIZED,
//!     }
//! }
//!
//! // hyper: collect the body with a limit first.
//! let (parts, body) = request.into_parts();
//! let body = Limited::new(body, 1 << 20).collect().await?.to_bytes();
//! let verified = verifier.verify(&parts.headers, &body)?;
//!
//! // actix-web has its own header map: pass the pairs.
//! let pairs: Vec<(&str, &[u8])> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
//! let verified = verifier.verify(&pairs, &body)?;
//! ```
//!
#![cfg_attr(feature = "http", doc = "The same with a header map:\n")]
#![cfg_attr(feature = "http", doc = "```")]
#![cfg_attr(
    feature = "http",
    doc = "let mut headers = http::HeaderMap::new();\nheaders.insert(\"x-stormcom-signature\", \"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\".parse()?);\nstormhook_verifier::verify_stormcom(&headers, b\"Hello, World!\", \"It's a Secret to Everybody\")?;\n# Ok::<(), Box<dyn std::error::Error>>(())"
)]
#![cfg_attr(feature = "http", doc = "```\n")]
//! # What else
//!
//! [`SequenceTracker`] detects missing deliveries, [`explain`] says why one is refused, [`SigningKeys`] signs, and
//! [`Secret`] is an endpoint's secret.
//!
//! # Bounds
//!
//! A signature header is read up to 4,096 bytes and 32 items, an id up to 256 bytes, a timestamp up to 12 digits, a
//! secret up to 256 bytes; a verifier holds up to 16 secrets. Verifying a delivery uses only the stack, at most 4,096
//! bytes of it for a header in several lines; memory is allocated when a verifier is created. [`explain`] copies a body
//! of up to 1 MiB at most eight times.

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

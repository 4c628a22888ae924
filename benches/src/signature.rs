//! Whether a delivery carries the headers that the contract promises. Every delivery is looked at;
//! computing the MACs again, with the verifier crate, is for a sample, since the sink shares its
//! cores with what is measured.

use hyper::HeaderMap;

/// Headers without which a delivery is wrong.
const REQUIRED: &[&str] = &[
    "x-stormcom-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-digest",
    "x-stormcom-delivery",
];

/// The first required header that isn't there.
pub(crate) fn missing_header(headers: &HeaderMap) -> Option<&'static str> {
    REQUIRED.iter().find(|name| !headers.contains_key(**name)).copied()
}

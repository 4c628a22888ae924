//! Fuzz targets of the verifier: they take bytes and panic if these are handled wrongly. They use only the public
//! interface, so the published crate has none of this code.

mod explain;
mod headers;
mod key_parsing;
mod request;
mod sequence;
mod verify;

use crate::smoke::Target;

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("headers", headers::run),
    ("key_parsing", key_parsing::run),
    ("verify", verify::run),
    ("explain", explain::run),
    ("sequence", sequence::run),
];

#[cfg(test)]
mod tests {
    use super::TARGETS;

    crate::smoke! { TARGETS; headers: 5_000, key_parsing: 10_000, verify: 5_000, explain: 2_000, sequence: 10_000 }
}

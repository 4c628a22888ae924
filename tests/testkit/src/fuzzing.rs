//! What a fuzzer runs against the verifier: bytes in, and a panic where they are not taken as they should be. It asks through the public
//! interface alone, so the crate that is published holds none of it.

mod explain;
mod headers;
mod key_parsing;
mod request;
mod sequence;
mod verify;

use crate::smoke::Target;

/// All of them.
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

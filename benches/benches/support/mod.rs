//! What the micro-benchmarks share. The events are those of the end-to-end benchmarks: 1,024 bytes of order JSON each.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod bed;
#[allow(
    unused_imports,
    reason = "its tests run with the program whose part it is"
)]
#[path = "../../src/bodies.rs"]
mod bodies;
pub(crate) mod fixture;
pub(crate) mod run;
#[path = "../../../store/tests/support/samples.rs"]
mod samples;
pub(crate) mod turns;

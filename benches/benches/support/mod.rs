//! Helpers of the micro-benchmarks. The events are those of the end-to-end benchmarks: 1,024 bytes of order JSON each.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod fixture;
pub(crate) mod run;
pub(crate) mod store_fixture;
pub(crate) mod turns;

//! The `stormhook` binary.

fn main() {}

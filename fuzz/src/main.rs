//! One program per target: its name selects the function of the crates that gets the fuzzer's bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let all = stormhook_testkit::fuzzing::TARGETS.into_iter();
    let all = all.chain(stormhook_store::fuzzing::TARGETS);
    let mut all = all.chain(stormhook_daemon::fuzzing::TARGETS);
    let named = all.find(|(name, _)| *name == env!("CARGO_BIN_NAME"));
    named.expect("a target of this name").1
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));

//! Black-box tests of the stormhook binary.

//! Black-box tests of the stormhook binary: everything is in `tests/all.rs`, this library is empty
//! because a package needs a target. The tests know the daemon by its HTTP interface, its exit
//! status, its signatures and its files only; they never link it.

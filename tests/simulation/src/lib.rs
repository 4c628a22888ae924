//! The daemon's whole decision core in one thread, from one seed: virtual time, simulated receivers, a simulated disk.
//!
//! What runs is the daemon's own code, from the operation that a caller submits through commit, schedule, attempt,
//! outcome and its commit, to a restart after a crash. The world around it is simulated. Nothing here decides what the
//! daemon does; the oracle says whether it kept its contract.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a simulation that can't go on fails"
)]

pub mod cluster;
mod core;
mod damage;
mod environment;
mod faults;
mod life;
mod notes;
mod oracle;
mod partners;
mod plan;
mod producers;
mod run;
mod tally;

pub use core::{Core, Unheld, settings};
pub use environment::Simulated;
pub use plan::{Mix, Plan};
pub use run::{Report, run};
pub use tally::Tally;

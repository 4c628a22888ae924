//! How many lines of a batch were accepted, replayed and rejected.

use crate::table::grouped;
use std::fmt;

/// How the lines of an input fared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Newly stored.
    pub(crate) accepted: u64,
    /// Stored earlier under the same key.
    pub(crate) replayed: u64,
    /// Not stored, with a problem.
    pub(crate) rejected: u64,
    /// Deliveries of the accepted lines.
    pub(crate) deliveries: u64,
}

impl Tally {
    /// Returns the number of lines that have a result.
    pub(crate) fn answered(&self) -> u64 {
        self.accepted + self.replayed + self.rejected
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} replayed, {} rejected",
            grouped(self.accepted),
            grouped(self.replayed),
            grouped(self.rejected)
        )
    }
}

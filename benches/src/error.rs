//! What can fail in a benchmark: the machinery, or the daemon's guarantees. Never a slow figure: those are
//! printed.

use std::error::Error;

/// The result of all operations of the benchmarks.
pub(crate) type Result<T> = std::result::Result<T, BenchError>;

/// Why a scenario has no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A process, file or connection didn't do what the benchmark needs.
    #[error("{doing} failed: {cause}")]
    Failed {
        /// What was being done.
        doing: String,
        /// The error.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// Something was lost, duplicated, unsigned, or answered against the contract.
    #[error("{0}")]
    Wrong(String),
}

impl BenchError {
    /// Returns an error for a violated guarantee.
    pub(crate) fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }
}

/// Adds the current step to an error.
pub(crate) trait Doing<T> {
    /// Names the step that failed.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|cause| BenchError::Failed {
            doing: what.into(),
            cause: cause.into(),
        })
    }
}

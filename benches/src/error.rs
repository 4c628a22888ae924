//! What can go wrong in a bench: the machinery failed, or the daemon broke its promise. Never a
//! slow figure: those are printed, not failed.

use std::error::Error;

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, BenchError>;

/// Why a scenario has no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A process, file or connection didn't do what the bench needs.
    #[error("{doing} failed: {cause}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What came back.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// Something was lost, doubled, unsigned, or answered against the contract.
    #[error("{0}")]
    Wrong(String),
}

impl BenchError {
    /// A broken promise, in words.
    pub(crate) fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }
}

/// Says what was being done when an error came.
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

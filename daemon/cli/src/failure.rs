//! How a command can fail, by whose fault it is, and its exit status.

use std::io;

use crate::refusal::Refusal;

/// The daemon refused, or a check failed.
pub(crate) const REFUSED: u8 = 1;
/// Usage error, or a file named on the command line can't be used.
pub(crate) const USAGE: u8 = 2;
/// No daemon answered.
pub(crate) const UNREACHABLE: u8 = 3;

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The daemon responded with an error.
    #[error("the daemon answered {}", .0.status)]
    Refused(Box<Refusal>),
    /// Refused; the reason has been printed already.
    #[error("refused")]
    Shown,
    /// Refused, for this reason.
    #[error("{0}")]
    No(String),
    /// Usage error.
    #[error("{0}")]
    Usage(String),
    /// No daemon, or it became unreachable.
    #[error("{0}")]
    Unreachable(String),
    /// The reader of the output has closed it.
    #[error("the reader of the output has closed it")]
    OutputClosed,
}

impl Failure {
    /// Returns a failure of this machine: what was tried, and the system's error.
    pub(crate) fn local(what: &str, error: &io::Error) -> Self {
        Self::Usage(format!("could not {what}: {error}"))
    }

    /// Returns the failure of a write to stdout. A closed pipe is a quiet end.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::local("write the output", error)
        }
    }

    /// Adds the endpoint that the command was about.
    pub(crate) fn about(mut self, endpoint: &str) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.endpoint = Some(endpoint.to_owned());
        }
        self
    }

    /// Returns the exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Shown | Self::No(_) => REFUSED,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::OutputClosed => 0,
        }
    }
}

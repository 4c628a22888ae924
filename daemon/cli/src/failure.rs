//! How a command can fail, by whose fault it was, and the exit status that says so.

use std::io;

use crate::refusal::Refusal;

/// The daemon said no, or what was checked is not right.
pub(crate) const REFUSED: u8 = 1;
/// The command was called wrongly, or a file it names can't be used.
pub(crate) const USAGE: u8 = 2;
/// No daemon answered.
pub(crate) const UNREACHABLE: u8 = 3;

/// The end of a command that didn't go well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The daemon answered with an error.
    #[error("the daemon answered {}", .0.status)]
    Refused(Box<Refusal>),
    /// The answer is no, and the reason is on the screen already.
    #[error("refused")]
    Shown,
    /// The answer is no, for this reason.
    #[error("{0}")]
    No(String),
    /// Called wrongly.
    #[error("{0}")]
    Usage(String),
    /// No daemon, or it went away in the middle.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever read our output has had enough.
    #[error("the reader of the output is gone")]
    OutputClosed,
}

impl Failure {
    /// Something on this machine that the command needs didn't work: what was tried, and what the system said.
    pub(crate) fn local(what: &str, error: &io::Error) -> Self {
        Self::Usage(format!("could not {what}: {error}"))
    }

    /// A failed write to stdout: a closed pipe is a quiet end.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::local("write the output", error)
        }
    }

    /// The same of a command that was about this endpoint.
    pub(crate) fn about(mut self, endpoint: &str) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.endpoint = Some(endpoint.to_owned());
        }
        self
    }

    /// The process's exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Shown | Self::No(_) => REFUSED,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::OutputClosed => 0,
        }
    }
}

//! What attempts are sent over, as the engine sees it: a port. `deliver` is HTTP; a simulation brings its own.

use crate::outcome::Reply;
use bytes::Bytes;
use http::HeaderMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

/// What an attempt sends.
pub struct AttemptRequest<'a> {
    /// Every header but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How much of a failure's body is kept.
    pub excerpt_bytes: usize,
    /// Asked right before the first byte is written: whether it is still to be sent.
    pub still_wanted: &'a (dyn Fn() -> bool + Send + Sync),
}

/// What came of asking for an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempted {
    /// This.
    Reply {
        /// What came back.
        reply: Reply,
        /// Whether the request was sent more than once, since the connection ended under it or the receiver said that it did not
        /// process it.
        reconnected: bool,
    },
    /// It was not wanted any more once there was a connection: nothing was sent.
    NotSent,
}

impl From<Reply> for Attempted {
    fn from(reply: Reply) -> Self {
        Self::Reply {
            reply,
            reconnected: false,
        }
    }
}

/// An attempt under way. Dropping it ends it.
pub type Attempting<'a> = Pin<Box<dyn Future<Output = Attempted> + Send + 'a>>;

/// Where one endpoint receives, ready to be sent to.
pub trait Destination: Debug + Send + Sync {
    /// Makes one attempt.
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a>;
}

/// See the module.
pub trait Transport: Send + Sync {
    /// Prepares a URL, by the configuration as it is now.
    ///
    /// # Errors
    /// Why nothing may be sent there, for people.
    fn destination(&self, url: &str) -> Result<Arc<dyn Destination>, String>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Nothing can be sent anywhere.
    pub(crate) struct Nowhere;

    impl Transport for Nowhere {
        fn destination(&self, url: &str) -> Result<Arc<dyn Destination>, String> {
            Err(format!("{url} is nowhere"))
        }
    }
}

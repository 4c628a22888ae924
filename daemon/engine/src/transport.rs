//! The transport, which sends attempts, as a port. `deliver` sends over HTTP; a simulation has its own.

use crate::outcome::Reply;
use bytes::Bytes;
use http::HeaderMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use stormhook_store::endpoint::Settings;

/// The request of an attempt.
pub struct AttemptRequest<'a> {
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How much of a failure's body is kept, in bytes.
    pub excerpt_bytes: usize,
    /// Called right before the first byte is written. Returns whether the request is still to be sent.
    pub still_wanted: &'a (dyn Fn() -> bool + Send + Sync),
}

/// The result of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempted {
    /// The attempt ended.
    Reply {
        /// How it ended.
        reply: Reply,
        /// Whether the request was sent more than once, because the connection closed under it or the receiver reported
        /// that it did not process it.
        reconnected: bool,
    },
    /// The attempt was no longer wanted once there was a connection. Nothing was sent.
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

/// An attempt in progress. Dropping it cancels it.
pub type Attempting<'a> = Pin<Box<dyn Future<Output = Attempted> + Send + 'a>>;

/// The URL of an endpoint, prepared for sending.
pub trait Destination: Debug + Send + Sync {
    /// Makes one attempt.
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a>;
}

/// See the module.
pub trait Transport: Send + Sync {
    /// Prepares the URL of an endpoint with these settings, with the current configuration.
    ///
    /// # Errors
    /// Why nothing may be sent there, for operators.
    fn destination(&self, endpoint: &Settings) -> Result<Arc<dyn Destination>, String>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A transport that can't send anything anywhere.
    pub(crate) struct Nowhere;

    impl Transport for Nowhere {
        fn destination(&self, endpoint: &Settings) -> Result<Arc<dyn Destination>, String> {
            Err(format!("{} is nowhere", endpoint.url))
        }
    }
}

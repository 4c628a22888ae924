//! The destination of an attempt, derived once from an endpoint's URL: the key that connections are shared by, the
//! request line, `host`, and the name that the certificate must have.

use crate::target::{TargetError, TargetPolicy, TargetUrl};
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use std::fmt;
use std::sync::Arc;

/// A URL that passed the form checks of the target guard, ready to send to. Cloning is cheap.
#[derive(Clone)]
pub struct Target(Arc<Parts>);

struct Parts {
    url: TargetUrl,
    origin: Arc<str>,
    host: HeaderValue,
    request_line: Box<str>,
    absolute: Uri,
    server_name: ServerName<'static>,
}

impl Target {
    /// Checks and prepares a URL. Its addresses are checked at every connection.
    ///
    /// # Errors
    /// The guard's error, or that the URL can't be a request's target.
    pub fn new(url: &str, policy: &TargetPolicy) -> Result<Self, TargetError> {
        let url = TargetUrl::parse(url, policy)?;
        let unfit =
            |what: &str| TargetError::NotAUrl(format!("its {what} can't be sent in a request"));
        let scheme = if url.is_https() { "https" } else { "http" };
        let origin = format!("{scheme}://{}:{}", url.host(), url.port());
        let server_name = match (url.address(), url.name()) {
            (Some(address), _) => ServerName::from(address),
            // RFC 6066, section 3: without a trailing dot.
            (None, Some(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|_| unfit("host"))?,
            (None, None) => return Err(unfit("host")),
        };
        let path: Uri = url.path_and_query().parse().map_err(|_| unfit("path"))?;
        let parts = Parts {
            origin: origin.into(),
            host: HeaderValue::from_str(url.authority()).map_err(|_| unfit("host"))?,
            request_line: format!("POST {path} HTTP/1.1\r\n").into(),
            absolute: url.as_str().parse().map_err(|_| unfit("path"))?,
            server_name,
            url,
        };
        Ok(Self(Arc::new(parts)))
    }

    /// Returns the URL.
    pub fn url(&self) -> &TargetUrl {
        &self.0.url
    }

    /// Returns scheme, host and port: the key that connections are shared by, and the only part of a URL that errors
    /// show, since a path or query may hold a credential.
    pub(super) fn origin(&self) -> &Arc<str> {
        &self.0.origin
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.0.host
    }

    /// Returns the first line of a request, with its line end.
    pub(super) fn request_line(&self) -> &str {
        &self.0.request_line
    }

    pub(super) fn absolute(&self) -> Uri {
        self.0.absolute.clone()
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.0.server_name.clone()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.0.origin)
    }
}

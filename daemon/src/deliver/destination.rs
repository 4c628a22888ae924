//! The destination of an attempt, derived once from an endpoint's settings: the key that connections are shared by, the
//! request line, `host`, the name that the certificate must have, and what TLS uses.

use crate::target::{TargetError, TargetPolicy, TargetUrl};
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use std::fmt;
use std::sync::Arc;
use stormhook_store::endpoint::{EndpointTls, Settings};
use stormhook_store::hex;

/// A URL that passed the form checks of the target guard, ready to send to. Cloning is cheap.
#[derive(Clone)]
pub struct Target(Arc<Parts>);

struct Parts {
    url: TargetUrl,
    origin: Arc<str>,
    pool_key: Arc<str>,
    host: HeaderValue,
    request_line: Box<str>,
    absolute: Uri,
    server_name: ServerName<'static>,
    tls: Option<Arc<EndpointTls>>,
}

impl Target {
    /// Checks and prepares the URL of an endpoint. Its addresses are checked at every connection.
    ///
    /// # Errors
    /// The guard's error, or that the URL can't be a request's target.
    pub fn of(endpoint: &Settings, policy: &TargetPolicy) -> Result<Self, TargetError> {
        Self::prepare(&endpoint.url, endpoint.tls.clone(), policy)
    }

    /// The same for a URL without settings.
    ///
    /// # Errors
    /// As for [`Target::of`].
    pub fn new(url: &str, policy: &TargetPolicy) -> Result<Self, TargetError> {
        Self::prepare(url, None, policy)
    }

    fn prepare(
        url: &str,
        tls: Option<Arc<EndpointTls>>,
        policy: &TargetPolicy,
    ) -> Result<Self, TargetError> {
        let url = TargetUrl::parse(url, policy)?;
        let unfit =
            |what: &str| TargetError::NotAUrl(format!("its {what} can't be sent in a request"));
        let server_name = match (url.address(), url.name()) {
            (Some(address), _) => ServerName::from(address),
            // RFC 6066, section 3: without a trailing dot.
            (None, Some(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|_| unfit("host"))?,
            (None, None) => return Err(unfit("host")),
        };
        let origin: Arc<str> = url.origin().into();
        let path: Uri = url.path_and_query().parse().map_err(|_| unfit("path"))?;
        let parts = Parts {
            pool_key: pool_key(&origin, tls.as_deref()),
            origin,
            host: HeaderValue::from_str(url.authority()).map_err(|_| unfit("host"))?,
            request_line: format!("POST {path} HTTP/1.1\r\n").into(),
            absolute: url.as_str().parse().map_err(|_| unfit("path"))?,
            server_name,
            tls,
            url,
        };
        Ok(Self(Arc::new(parts)))
    }

    /// Returns the URL.
    pub fn url(&self) -> &TargetUrl {
        &self.0.url
    }

    /// Returns scheme, host and port: the only part of a URL that errors show, since a path or query may hold a
    /// credential.
    pub(super) fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Returns what connections are shared by: the origin and the TLS settings.
    pub(super) fn pool_key(&self) -> &Arc<str> {
        &self.0.pool_key
    }

    pub(super) fn tls(&self) -> Option<&EndpointTls> {
        self.0.tls.as_deref()
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

fn pool_key(origin: &Arc<str>, tls: Option<&EndpointTls>) -> Arc<str> {
    let Some(tls) = tls else {
        return origin.clone();
    };
    format!("{origin} {}", hex(tls.fingerprint())).into()
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.0.origin)
    }
}

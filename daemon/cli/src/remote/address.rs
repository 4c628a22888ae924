//! The address of a daemon elsewhere, from its URL. Pure.

use std::fmt;

use rustls::pki_types::ServerName;
use url::{Host, Url};

/// The port of a daemon, unless the URL names another.
const PORT: u16 = 8650;

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// TLS.
    Https,
    /// Without TLS, only to this machine.
    Http,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) scheme: Scheme,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The host and the port as in a URL.
    pub(super) authority: String,
    name: ServerName<'static>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl Address {
    /// Reads a URL, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--server (STORMHOOK_SERVER): {why}");
        let form = "must be a URL such as https://hooks.example:8650";
        let url = Url::parse(text).map_err(|_| wrong(form))?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(wrong(form)),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "must not contain a user or a token; name a file that holds the token, with --token-file",
            ));
        }
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !is_bare {
            return Err(wrong("must end after the host and port, without a path"));
        }
        let (host, is_loopback) = match url.host() {
            Some(Host::Domain(name)) => (
                name.to_owned(),
                name == "localhost" || name.ends_with(".localhost"),
            ),
            Some(Host::Ipv4(v4)) => (v4.to_string(), v4.is_loopback()),
            Some(Host::Ipv6(v6)) => (v6.to_string(), v6.to_canonical().is_loopback()),
            None => return Err(wrong(form)),
        };
        if scheme == Scheme::Http && !is_loopback {
            return Err(wrong(
                "http:// is for this machine only, since the token would cross the network unencrypted; use https://",
            ));
        }
        let Ok(name) = ServerName::try_from(host.clone()) else {
            return Err(wrong(form));
        };
        // The URL's own default ports are left out of its text, so only the text says whether one was named.
        let port = url
            .port()
            .unwrap_or_else(|| named_default(text).unwrap_or(PORT));
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        Ok(Self {
            scheme,
            authority: format!("{shown}:{port}"),
            host,
            port,
            name,
        })
    }

    /// Returns what the certificate must be for.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

/// Returns the scheme's default port if the text names it.
fn named_default(text: &str) -> Option<u16> {
    let text = text.trim().trim_end_matches('/');
    [443, 80]
        .into_iter()
        .find(|port| text.ends_with(&format!(":{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_scheme_host_and_port() {
        for (text, shown, host) in [
            (
                "https://hooks.example",
                "https://hooks.example:8650",
                "hooks.example",
            ),
            (
                "https://HOOKS.example:443",
                "https://hooks.example:443",
                "hooks.example",
            ),
            (
                "https://hooks.example:443/",
                "https://hooks.example:443",
                "hooks.example",
            ),
            (
                "https://[2001:db8::1]:9000",
                "https://[2001:db8::1]:9000",
                "2001:db8::1",
            ),
            ("https://192.0.2.1", "https://192.0.2.1:8650", "192.0.2.1"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80", "127.0.0.1"),
            ("http://localhost", "http://localhost:8650", "localhost"),
            ("http://[::1]", "http://[::1]:8650", "::1"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.host.as_str()),
                (shown, host)
            );
        }
    }

    #[test]
    fn a_url_that_would_expose_the_token_or_is_no_address_is_refused() {
        for (text, said) in [
            ("http://hooks.example", "for this machine only"),
            ("http://192.0.2.1:8650", "for this machine only"),
            ("http://127.0.0.1.example", "for this machine only"),
            (
                "https://token@hooks.example",
                "must not contain a user or a token",
            ),
            (
                "https://a:b@hooks.example",
                "must not contain a user or a token",
            ),
            ("https://hooks.example/v1", "without a path"),
            ("https://hooks.example?a=b", "without a path"),
            ("hooks.example:8650", "must be a URL such as"),
            ("hooks.example", "must be a URL such as"),
            ("ftp://hooks.example", "must be a URL such as"),
            ("", "must be a URL such as"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}

//! The URL of a forward proxy. It is the operator's own choice, so the rules for targets don't apply to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use url::{Host, Url};

/// A proxy that deliveries go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    host: Host,
    port: u16,
}

/// A text is not the URL of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL such as http://proxy.internal:3128, without credentials or a path")]
pub struct NotAProxy;

impl FromStr for ProxyUrl {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<Self, NotAProxy> {
        let url = Url::parse(text).map_err(|_| NotAProxy)?;
        let plain = url.scheme() == "http"
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let host = url.host().map(|host| host.to_owned());
        match (host, port) {
            (Some(host), Some(port)) if plain => Ok(Self { host, port }),
            _ => Err(NotAProxy),
        }
    }
}

impl ProxyUrl {
    /// Returns the name to look up, or the address.
    pub(crate) fn host(&self) -> Result<IpAddr, &str> {
        match &self.host {
            Host::Ipv4(address) => Ok((*address).into()),
            Host::Ipv6(address) => Ok((*address).into()),
            Host::Domain(name) => Err(name),
        }
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_plain_http_url() {
        for (text, shown) in [
            ("http://proxy.internal:3128", "http://proxy.internal:3128"),
            ("http://Proxy.Internal:3128/", "http://proxy.internal:3128"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://proxy", "http://proxy:80"),
        ] {
            let url: ProxyUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
        }
        for text in [
            "",
            "proxy:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://user:pass@proxy:3128",
            "http://user@proxy:3128",
            "http://proxy:3128/path",
            "http://proxy:3128?a",
            "http://proxy:3128#a",
            "http://proxy:0",
        ] {
            assert_eq!(text.parse::<ProxyUrl>(), Err(NotAProxy), "{text}");
        }
    }
}

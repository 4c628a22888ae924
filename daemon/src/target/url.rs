//! A URL that a delivery may go to. The host is checked as written; then the normal form of the WHATWG parser counts,
//! so that what is checked is what is sent to. Never looks a name up.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::TargetPolicy;
use super::rule::{Refusal, Rule};
use super::tables::BAD_PORTS;

/// The maximum length of a URL (RFC 9110, section 4.1, recommends supporting 8,000 octets).
pub const MAX_URL_BYTES: usize = 8_000;

const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Why a text is not a valid target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL: the caller's mistake, answered with 400.
    #[error("expected an absolute URL such as https://partner.example/hooks: {0}")]
    NotAUrl(String),
    /// A URL that policy forbids, answered with 422.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A URL in its normal form that passed every rule except those on resolved addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetUrl {
    url: Url,
    port: u16,
}

impl TargetUrl {
    /// Parses and checks a URL under `policy`.
    ///
    /// # Errors
    /// [`TargetError`], for the first rule that it violates.
    pub fn parse(raw: &str, policy: &TargetPolicy) -> Result<Self, TargetError> {
        if raw.len() > MAX_URL_BYTES {
            let detail = format!(
                "it has {} bytes, at most {MAX_URL_BYTES} are allowed",
                raw.len()
            );
            return Err(TargetError::NotAUrl(detail));
        }
        let written = Written::of(raw);
        if let Some(written) = &written {
            judge_written_host(written.host)?;
        }
        let url = Url::parse(raw).map_err(|error| TargetError::NotAUrl(error.to_string()))?;
        judge_scheme(&url, policy)?;
        let has_userinfo = written.is_some_and(|written| written.has_at);
        if has_userinfo || !url.username().is_empty() || url.password().is_some() {
            let detail = "the URL contains a user name or password; put credentials into the endpoint's headers";
            return Err(Refusal::new(Rule::Userinfo, detail).into());
        }
        if url.fragment().is_some() {
            let detail = "the URL has a #… part, which is never sent; remove it";
            return Err(Refusal::new(Rule::Fragment, detail).into());
        }
        // Both allowed schemes have a default port.
        let port = url.port_or_known_default().unwrap_or(0);
        if BAD_PORTS.contains(&port) {
            let detail = format!(
                "port {port} is reserved for another protocol or invalid; use 443 or another port"
            );
            return Err(Refusal::new(Rule::Port, detail).into());
        }
        let target = Self { url, port };
        target.judge_host(policy)?;
        Ok(target)
    }

    fn judge_host(&self, policy: &TargetPolicy) -> Result<(), Refusal> {
        match self.url.host() {
            None => Err(host_form("the host is empty")),
            Some(Host::Ipv4(address)) => policy.judge_address(self, address.into()),
            Some(Host::Ipv6(address)) => policy.judge_address(self, address.into()),
            Some(Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                judge_lengths(name)?;
                policy.judge_name(name)
            }
        }
    }

    /// Returns the normal form: this is stored, shown and sent to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Returns the name to look up, in ASCII and lower case, with its trailing dot if it was written with one; `None`
    /// if the host is an address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.url.domain()
    }

    /// Returns the address, if the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// Returns the host as in the URL: an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Returns the port, explicit or that of the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether to connect with TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns scheme, host and port.
    #[must_use]
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}:{}", self.url.scheme(), self.host(), self.port)
    }

    /// Returns the request target: path and query.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        self.url.as_str().get(self.path_start()..).unwrap_or("/")
    }

    /// Returns the value of the `Host` header: the host, and the port unless it is the scheme's default.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.url.authority()
    }

    fn path_start(&self) -> usize {
        self.url.scheme().len() + "://".len() + self.url.authority().len()
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The authority of an `http` or `https` URL as written.
struct Written<'a> {
    host: &'a str,
    has_at: bool,
}

impl<'a> Written<'a> {
    /// Finds the host as the WHATWG parser would: after any number of slashes of either kind, up to the next slash, `?`
    /// or `#`, after the last `@`, before the port. `None` for other schemes, which are refused anyway.
    fn of(raw: &'a str) -> Option<Self> {
        let (scheme, rest) = raw.trim_start_matches(|c: char| c <= ' ').split_once(':')?;
        let scheme: String = scheme
            .chars()
            .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
            .collect();
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let rest = rest.trim_start_matches(['/', '\\']);
        let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
        let (userinfo, host_and_port) = match authority.rsplit_once('@') {
            Some((userinfo, after)) => (Some(userinfo), after),
            None => (None, authority),
        };
        let host = match host_and_port.split_once(']') {
            Some((bracketed, _)) if bracketed.starts_with('[') => bracketed,
            _ => host_and_port.split(':').next().unwrap_or_default(),
        };
        Some(Self {
            host,
            has_at: userinfo.is_some(),
        })
    }
}

fn host_form(detail: impl fmt::Display) -> Refusal {
    Refusal::new(
        Rule::HostForm,
        format!("{detail}; write a plain host name or address"),
    )
}

/// Checks the host as written. Lengths only if the parser won't change them.
fn judge_written_host(host: &str) -> Result<(), Refusal> {
    if host.is_empty() {
        return Err(host_form("the host is empty"));
    }
    if host.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(host_form(
            "the host contains a space or a control character",
        ));
    }
    if host.contains('%') {
        return Err(host_form("the host contains a % (an escape or a zone id)"));
    }
    if host.is_ascii() && !host.starts_with('[') {
        judge_lengths(host.strip_suffix('.').unwrap_or(host))?;
    }
    Ok(())
}

/// Checks lengths (RFC 1035, section 2.3.4). `name` is without its trailing dot.
fn judge_lengths(name: &str) -> Result<(), Refusal> {
    if name.len() > MAX_HOST_BYTES {
        return Err(host_form(format_args!(
            "the host has {} bytes, at most {MAX_HOST_BYTES} are allowed",
            name.len()
        )));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(host_form("the host has an empty part between dots"));
        }
        if label.len() > MAX_LABEL_BYTES {
            let bytes = label.len();
            return Err(host_form(format_args!(
                "a part of the host has {bytes} bytes, at most {MAX_LABEL_BYTES} are allowed"
            )));
        }
    }
    Ok(())
}

fn judge_scheme(url: &Url, policy: &TargetPolicy) -> Result<(), Refusal> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if policy.allow_http => Ok(()),
        "http" => Err(Refusal::new(
            Rule::Scheme,
            "http is not allowed; use https, or have the operator set target.allow_http",
        )),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(Refusal::new(
                Rule::Scheme,
                format!("the scheme is {shown}; use https"),
            ))
        }
    }
}

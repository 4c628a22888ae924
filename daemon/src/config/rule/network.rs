//! Rules for network names: addresses, host names, target patterns, a header.

use std::net::SocketAddr;

use toml::Value;

use super::{Raw, Rule};
use crate::headers;
use crate::target::{Pattern, ProxyUrl};

/// An address and a port to listen on.
pub(in super::super) struct Address;

impl Rule<SocketAddr> for Address {
    fn allowed(&self) -> String {
        "an IP address and a port such as \"127.0.0.1:8650\" or \"[::1]:8650\"".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<SocketAddr> {
        raw.text()?.parse().ok()
    }
    fn show(&self, value: &SocketAddr) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// The address of a name server; port 53 unless another is given.
pub(in super::super) struct NameServer;

impl Rule<SocketAddr> for NameServer {
    fn allowed(&self) -> String {
        "an IP address, with a port unless that is 53, such as \"192.0.2.1\" or \"[::1]:5300\""
            .to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<SocketAddr> {
        let text = raw.text()?;
        let alone = || Some(SocketAddr::new(text.parse().ok()?, 53));
        let address: SocketAddr = text.parse().ok().or_else(alone)?;
        (address.port() != 0).then_some(address)
    }
    fn show(&self, value: &SocketAddr) -> Option<Value> {
        let text = match value.port() {
            53 => value.ip().to_string(),
            _ => value.to_string(),
        };
        Some(Value::String(text))
    }
}

/// A host and a port.
pub(in super::super) struct HostPort;

impl Rule<String> for HostPort {
    fn allowed(&self) -> String {
        "a host and a port such as \"10.0.0.5:8651\" or \"hooks-1.internal:8651\"".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<String> {
        let text = raw.text()?;
        let authority: http::uri::Authority = text.parse().ok()?;
        let has_port = authority.port_u16().is_some_and(|port| port != 0);
        (has_port && !text.contains('@')).then(|| text.to_owned())
    }
    fn show(&self, value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}

/// The URL of a forward proxy.
pub(in super::super) struct Proxy;

impl Rule<ProxyUrl> for Proxy {
    fn allowed(&self) -> String {
        "a URL such as \"http://proxy.internal:3128\", without credentials or a path".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<ProxyUrl> {
        raw.text()?.parse().ok()
    }
    fn show(&self, value: &ProxyUrl) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// The URL of a PostgreSQL database.
pub(in super::super) struct DatabaseUrl;

impl Rule<String> for DatabaseUrl {
    fn allowed(&self) -> String {
        "a URL such as \"postgres://user@host/database\" or \"postgres:///database?host=/run/postgresql\""
            .to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<String> {
        let text = raw.text()?;
        let is_url = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        (is_url && text.len() <= 4096).then(|| text.to_owned())
    }
    fn show(&self, value: &String) -> Option<Value> {
        Some(Value::String(without_password(value)))
    }
}

/// Returns a text with the passwords of a URL in it replaced: everything between the user's name and the host, and the
/// parameter `password`.
#[must_use]
pub fn without_password(text: &str) -> String {
    let masked = || {
        let (scheme, rest) = text.split_once("://")?;
        // A password may contain an `@`, a host may not.
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    };
    let text = masked().unwrap_or_else(|| text.to_owned());
    let parameters = text.split_inclusive('&').map(|parameter| {
        let first = parameter.find("?password=").map(|at| at + 1);
        let at = first.or_else(|| parameter.starts_with("password=").then_some(0));
        let Some(at) = at else {
            return parameter.to_owned();
        };
        // The text may be quoted as a whole.
        let end = parameter.chars().last().filter(|end| "&\"'".contains(*end));
        let before = parameter.get(..at).unwrap_or_default();
        format!(
            "{before}password=***{}",
            end.map(String::from).unwrap_or_default()
        )
    });
    parameters.collect()
}

/// A name that may appear in a `Host` header, without a port.
pub(in super::super) struct HostName;

impl Rule<String> for HostName {
    fn allowed(&self) -> String {
        "a host name without a port, such as \"hooks.example.com\"".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<String> {
        match raw.text()?.parse::<Pattern>().ok()? {
            Pattern::Name(name) => Some(name),
            Pattern::Network(_) | Pattern::Below(_) => None,
        }
    }
    fn show(&self, value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}

/// An entry of `target.allow` or `target.deny`.
pub(in super::super) struct TargetPattern;

impl Rule<Pattern> for TargetPattern {
    fn allowed(&self) -> String {
        "a network such as \"10.0.0.0/8\", an address, a host name or \"*.host-name\"".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<Pattern> {
        raw.text()?.parse().ok()
    }
    fn show(&self, value: &Pattern) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// The name of the header that holds the StormCom signature.
pub(in super::super) struct SignatureHeader;

/// The built-in name, the only one with a reserved prefix that it may use.
pub(in super::super) const SIGNATURE_HEADER: &str = "x-stormcom-signature";

impl Rule<String> for SignatureHeader {
    fn allowed(&self) -> String {
        "a header name (RFC 9110) that deliveries and connections don't use already".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<String> {
        let name = raw.text()?.to_ascii_lowercase();
        let free = name == SIGNATURE_HEADER || !headers::is_reserved(&name);
        (headers::is_token(&name) && free).then_some(name)
    }
    fn show(&self, value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}

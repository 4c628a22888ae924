//! The entries of `target.allow` and `target.deny`: a network in CIDR notation, one address, a host name, or `*.` and a
//! host name. This module only matches; callers decide what follows from a match.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use url::Host;

/// One entry of `target.allow` or `target.deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A network such as `10.0.0.0/8`; a single address is a network of one address.
    Network(IpNet),
    /// Exactly this name.
    Name(String),
    /// Every name below this one, at any depth, but not the name itself: `*.example.com`.
    Below(String),
}

/// Why a text is not a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a network such as 10.0.0.0/8, an address, a host name or *.host-name, not {0:?}")]
pub struct PatternError(String);

impl Pattern {
    /// Whether `address` is in this network. Host patterns match no address.
    #[must_use]
    pub fn matches_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(&address))
    }

    /// Whether this matches `name`, which is in lower case and without a trailing dot. Networks match no name.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Network(_) => false,
            Self::Name(exact) => exact == name,
            Self::Below(parent) => name
                .strip_suffix(parent.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(unmapped(network.trunc())));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(unmapped(IpNet::from(address))));
        }
        let refused = || PatternError(text.chars().take(80).collect());
        let (name, below) = match text.strip_prefix("*.") {
            Some(parent) => (parent, true),
            None => (text, false),
        };
        let plain = !name.is_empty()
            && !name
                .contains(|c: char| c.is_whitespace() || c.is_control() || "*/:%?#@[]".contains(c));
        if !plain {
            return Err(refused());
        }
        // The same normal form as the host of a URL, so that both can be compared byte for byte.
        let Ok(Host::Domain(normal)) = Host::parse(name.trim_end_matches('.')) else {
            return Err(refused());
        };
        if normal.split('.').any(str::is_empty) || normal.len() > 253 {
            return Err(refused());
        }
        Ok(if below {
            Self::Below(normal)
        } else {
            Self::Name(normal)
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "{network}"),
            Self::Name(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Returns a network inside `::ffff:0:0/96` as the IPv4 network that connecting to it reaches (RFC 4291, 2.5.5.2).
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = v6.addr().to_ipv4_mapped();
    match (mapped, v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => Ipv4Net::new(v4, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_shown_in_its_normal_form() {
        for (text, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("Example.COM.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(
                text.parse::<Pattern>().unwrap().to_string(),
                shown,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_neither_network_nor_name_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "10.0.0.0/33",
            "a b",
            "*.*.a",
            "a/b",
            "127.1",
            "http://a.b",
            "a..b",
            "a:80",
            "*a.b",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_matches_what_is_below_and_not_the_name_itself() {
        let pattern: Pattern = "*.example.com".parse().unwrap();
        assert!(pattern.matches_name("a.example.com"));
        assert!(pattern.matches_name("a.b.example.com"));
        assert!(!pattern.matches_name("example.com"));
        assert!(!pattern.matches_name(".example.com"));
        assert!(!pattern.matches_name("notexample.com"));
    }
}

//! The address that a request comes from: that of the connection, or the one that a trusted proxy in front states.

use http::{HeaderMap, HeaderName};
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the address of the caller. Behind a proxy it is the last entry of `x-forwarded-for`: the proxy adds that one,
/// while the caller may have written any entry before it. If the proxy states none, it is the proxy's own.
pub(super) fn of(connection: IpAddr, headers: &HeaderMap, behind_proxy: bool) -> IpAddr {
    let stated = || {
        let line = headers.get_all(FORWARDED_FOR).iter().next_back()?;
        let (_, last) = line
            .to_str()
            .ok()?
            .rsplit_once(',')
            .unwrap_or(("", line.to_str().ok()?));
        parse(last.trim())
    };
    behind_proxy
        .then(stated)
        .flatten()
        .unwrap_or(connection)
        .to_canonical()
}

/// Reads an address, which some proxies write with a port or in brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let in_brackets = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    in_brackets
        .unwrap_or(text)
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of_lines(lines: &[&str], behind_proxy: bool) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        of("10.0.0.1".parse().unwrap(), &headers, behind_proxy).to_string()
    }

    #[test]
    fn behind_a_proxy_the_last_entry_counts() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["1.1.1.1, 192.0.2.7"], "192.0.2.7"),
            (&["1.1.1.1", "2.2.2.2,192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&[], "10.0.0.1"),
            (&["192.0.2.7, unknown"], "10.0.0.1"),
            (&["192.0.2.7,"], "10.0.0.1"),
        ] {
            assert_eq!(of_lines(lines, true), expected, "{lines:?}");
        }
    }

    #[test]
    fn without_a_proxy_the_header_is_ignored() {
        assert_eq!(of_lines(&["192.0.2.7"], false), "10.0.0.1");
    }
}

//! Who may call over TCP: `Host` must be the daemon's own, a foreign `Origin` is refused, and a token authenticates the
//! caller.
//!
//! A valid token always passes. Invalid tokens are counted, so that guessing is slow.

use super::failures::{Failures, Source, Verdict};
use super::problem::{Code, Problem};
use crate::token::Token;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Uri};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use stormhook_engine::clock::Moment;

/// See the module.
pub(crate) struct Callers {
    token: Arc<Token>,
    listener: SocketAddr,
    began: Moment,
    failures: Mutex<Failures>,
}

impl Callers {
    pub(crate) fn new(token: Arc<Token>, listener: SocketAddr) -> Self {
        Self {
            token,
            listener,
            began: Moment::now(),
            failures: Mutex::default(),
        }
    }

    /// Whether a request over TCP may proceed. `open` routes need no token. Invalid tokens count for the address `from`.
    pub(crate) fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        names: &[String],
        open: bool,
        from: IpAddr,
    ) -> Result<(), Problem> {
        // If the target has an authority, it takes precedence (RFC 9112, section 3.2.2); the header must be ours as
        // well.
        let authority = uri.authority().map(http::uri::Authority::as_str);
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|v| v.to_str().ok()).or(authority);
        let ours = [host, authority.or(host)];
        let are_ours = ours
            .iter()
            .all(|h| h.is_some_and(|h| self.is_ours(h, names)));
        if hosts.next().is_some() || !are_ours {
            return Err(Problem::new(
                Code::HostRefused,
                "The Host header names another host. Use the listener's address or localhost, or add the name to host_names.",
            ));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let foreign = |origin: &http::HeaderValue| {
            !origin.to_str().is_ok_and(|o| self.is_own_origin(o, names))
        };
        if origins.any(foreign) {
            return Err(Problem::new(
                Code::OriginRefused,
                "Pages of other origins can't call the daemon. Call it from a program, or from its own address.",
            ));
        }
        if open {
            Ok(())
        } else {
            self.check_token(headers, from)
        }
    }

    fn check_token(&self, headers: &HeaderMap, from: IpAddr) -> Result<(), Problem> {
        let place = self.token.place();
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(Problem::new(
                Code::TokenMissing,
                format!("Missing token. Send `Authorization: Bearer` with the token {place}."),
            ));
        };
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        if token.is_some_and(|token| self.token.matches(token)) {
            return Ok(());
        }
        if self.count_failure(from) == Verdict::Invalid {
            return Err(Problem::new(
                Code::TokenInvalid,
                format!("Invalid token. Use the one {place}."),
            ));
        }
        Err(Problem::new(
            Code::TooManyAttempts,
            format!("Too many invalid tokens. Wait one second, then use the token {place}."),
        ))
    }

    fn count_failure(&self, from: IpAddr) -> Verdict {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = failures.note(Source::from(from), self.began.elapsed());
        drop(failures);
        if verdict == Verdict::FirstTooMany {
            tracing::warn!(%from, "too many invalid tokens; further ones are told to wait");
        }
        verdict
    }

    /// Whether a host, with or without a port, is the listener's own.
    fn is_ours(&self, host: &str, names: &[String]) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((inside, port)) if is_port(port) => {
                    return inside == "::1"
                        || inside
                            .parse()
                            .is_ok_and(|v6| self.is_own_address(IpAddr::V6(v6)));
                }
                _ => return false,
            },
            None => match host.split_once(':') {
                Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
                None => host,
                Some(_) => return false,
            },
        };
        name.eq_ignore_ascii_case("localhost")
            || name
                .parse()
                .is_ok_and(|address| self.is_own_address(address))
            || names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether the listener is reached at this address. One on all addresses doesn't know them, and needn't: what this
    /// guards against, a foreign name that leads here, is not an address.
    fn is_own_address(&self, address: IpAddr) -> bool {
        let own = self.listener.ip();
        address == own || own.is_unspecified()
    }

    fn is_own_origin(&self, origin: &str, names: &[String]) -> bool {
        let host = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        host.is_some_and(|host| {
            let default_port = if origin.starts_with("https") {
                "443"
            } else {
                "80"
            };
            let (name, port) = host.rsplit_once(':').unwrap_or((host, default_port));
            let is_named = names.iter().any(|known| known.eq_ignore_ascii_case(name));
            // A name in `host_names` is that of a proxy, which may listen on any port.
            is_named || self.is_ours(host, names) && port == self.listener.port().to_string()
        })
    }
}

/// Whether the text is empty, or a colon and digits.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::failures::FAILURES_OF_ONE;
    use super::*;
    use http::HeaderValue;

    fn callers() -> Callers {
        let token = Token::of_test("0123456789abcdef");
        Callers::new(Arc::new(token), "127.0.0.1:8650".parse().unwrap())
    }

    fn check(headers: &[(&'static str, &str)]) -> Result<(), Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let names = ["hooks.example".to_owned()];
        callers()
            .check(&Uri::from_static("/v1/stats"), &map, &names, false, FROM)
            .map_err(|p| p.code)
    }

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const RIGHT: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

    #[test]
    fn only_our_own_names_are_hosts() {
        for host in [
            "127.0.0.1:8650",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8650",
            "hooks.example",
            "127.0.0.1",
        ] {
            assert_eq!(check(&[("host", host), RIGHT]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "[localhost]",
            "[127.0.0.1]",
            "localhost:x",
            "",
            "127.0.0.2",
            "[::1",
            "localhost.evil",
        ] {
            assert_eq!(
                check(&[("host", host), RIGHT]),
                Err(Code::HostRefused),
                "{host}"
            );
        }
        assert_eq!(check(&[RIGHT]), Err(Code::HostRefused));
        assert_eq!(
            check(&[("host", "localhost"), ("host", "localhost"), RIGHT]),
            Err(Code::HostRefused)
        );
    }

    #[test]
    fn a_listener_on_all_addresses_is_named_by_any_address() {
        let token = Arc::new(Token::of_test("0123456789abcdef"));
        let callers = Callers::new(token, "0.0.0.0:8650".parse().unwrap());
        for (host, is_ours) in [
            ("10.0.0.5:8650", true),
            ("[2001:db8::1]:8650", true),
            ("localhost", true),
            ("evil.example", false),
            ("10.0.0.5.evil.example", false),
        ] {
            assert_eq!(callers.is_ours(host, &[]), is_ours, "{host}");
        }
    }

    #[test]
    fn a_foreign_origin_is_refused() {
        let host = ("host", "localhost:8650");
        for origin in ["http://localhost:8650", "https://hooks.example"] {
            assert_eq!(
                check(&[host, ("origin", origin), RIGHT]),
                Ok(()),
                "{origin}"
            );
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:3000",
            "http://localhost",
            "file://localhost",
        ] {
            assert_eq!(
                check(&[host, ("origin", origin), RIGHT]),
                Err(Code::OriginRefused),
                "{origin}"
            );
        }
    }

    #[test]
    fn a_right_token_passes_however_many_wrong_ones_came() {
        let callers = callers();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let check = |headers: &HeaderMap, open, from| {
            let uri = Uri::from_static("/");
            let checked = callers.check(&uri, headers, &[], open, from);
            checked.map_err(|problem| problem.code)
        };
        assert_eq!(check(&headers, false, FROM), Err(Code::TokenMissing));
        assert_eq!(check(&headers, true, FROM), Ok(()));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer wrong"));
        for _ in 0..FAILURES_OF_ONE {
            assert_eq!(check(&headers, false, FROM), Err(Code::TokenInvalid));
        }
        assert_eq!(check(&headers, false, FROM), Err(Code::TooManyAttempts));
        let other = "192.0.2.1".parse().unwrap();
        assert_eq!(check(&headers, false, other), Err(Code::TokenInvalid));
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_static("bearer 0123456789abcdef"),
        );
        assert_eq!(check(&headers, false, FROM), Ok(()));
    }
}

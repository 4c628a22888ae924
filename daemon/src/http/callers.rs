//! Who calls. Over TCP `Host` must be the daemon's own, a foreign `Origin` is refused, and a token authenticates the
//! caller. On the Unix socket a token is optional; one that is shown decides instead of the socket.
//!
//! A valid token always passes. Invalid tokens are counted, so that guessing is slow.

use super::client_address;
use super::failures::{Failures, Source, Verdict};
use super::key_text;
use super::principal::Principal;
use super::problem::{Code, Problem};
use super::{Shared, ask};
use crate::config::Config;
use crate::token::Token;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use stormhook_engine::clock::Moment;

/// See the module.
pub(crate) struct Callers {
    /// The admin token. Without a TCP listener there is none.
    token: Option<Arc<Token>>,
    /// The address of the listener; `None` on the socket.
    listener: Option<SocketAddr>,
    began: Moment,
    failures: Mutex<Failures>,
}

impl Callers {
    /// Callers over TCP, or, without an address, on the socket.
    pub(crate) fn new(token: Option<Arc<Token>>, listener: Option<SocketAddr>) -> Self {
        Self {
            token,
            listener,
            began: Moment::now(),
            failures: Mutex::default(),
        }
    }

    /// Returns the caller of a request. `open` routes need no proof. Before the daemon has started there is no `app`.
    /// Invalid tokens count for the address that the connection comes from, or the client of a proxy there.
    pub(crate) async fn of(
        &self,
        head: &Parts,
        from: IpAddr,
        config: &Config,
        app: Option<&Shared>,
        open: bool,
    ) -> Result<Principal, Problem> {
        if let Some(listener) = self.listener {
            check_host(listener, &head.uri, &head.headers, &config.host_names)?;
        }
        match head.headers.get(AUTHORIZATION) {
            _ if open => Ok(Principal::anyone()),
            Some(shown) => {
                let from = client_address::of(from, &head.headers, config.behind_proxy);
                self.of_token(shown, from, app).await
            }
            None if self.listener.is_none() => Ok(Principal::on_socket(&config.socket_scopes)),
            None => Err(Problem::new(
                Code::TokenMissing,
                format!(
                    "Missing token. Send `Authorization: Bearer` with an API key, or the token {}.",
                    self.place()
                ),
            )),
        }
    }

    /// Returns the caller that a token proves.
    async fn of_token(
        &self,
        shown: &HeaderValue,
        from: IpAddr,
        app: Option<&Shared>,
    ) -> Result<Principal, Problem> {
        let token = shown.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = token.unwrap_or_default();
        if self
            .token
            .as_ref()
            .is_some_and(|known| known.matches(token))
        {
            return Ok(Principal::admin());
        }
        if let Some(digest) = key_text::digest(token) {
            let app = app.ok_or_else(Problem::starting)?;
            let found = ask(app, app.reader().find_api_key(&digest)).await?;
            if let Some(key) = found.filter(|key| key.is_live(app.now())) {
                app.api_key_used(&key);
                return Ok(Principal::of_key(&key));
            }
        }
        if self.count_failure(from) != Verdict::Invalid {
            return Err(Problem::new(
                Code::TooManyAttempts,
                "Too many invalid tokens. Wait one second, then use a valid one.",
            ));
        }
        Err(Problem::new(
            Code::TokenInvalid,
            format!(
                "Invalid token. Use an API key that is neither revoked nor expired, or the token {}.",
                self.place()
            ),
        ))
    }

    fn place(&self) -> &'static str {
        let token = self.token.as_deref();
        token.map_or("of the TCP listener, which is off", Token::place)
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
}

/// Checks that a request over TCP is for this daemon, and from no foreign page.
fn check_host(
    listener: SocketAddr,
    uri: &Uri,
    headers: &HeaderMap,
    names: &[String],
) -> Result<(), Problem> {
    // If the target has an authority, it takes precedence (RFC 9112, section 3.2.2); the header must be ours as well.
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|v| v.to_str().ok()).or(authority);
    let ours = [host, authority.or(host)];
    let are_ours = ours
        .iter()
        .all(|h| h.is_some_and(|h| is_ours(listener, h, names)));
    if hosts.next().is_some() || !are_ours {
        return Err(Problem::new(
            Code::HostRefused,
            "The Host header names another host. Use the listener's address or localhost, or add the name to host_names.",
        ));
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let foreign = |origin: &http::HeaderValue| {
        !origin
            .to_str()
            .is_ok_and(|o| is_own_origin(listener, o, names))
    };
    if origins.any(foreign) {
        return Err(Problem::new(
            Code::OriginRefused,
            "Pages of other origins can't call the daemon. Call it from a program, or from its own address.",
        ));
    }
    Ok(())
}

/// Whether a host, with or without a port, is the listener's own.
fn is_ours(listener: SocketAddr, host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inside, port)) if is_port(port) => {
                let is_own = |v6| is_own_address(listener, IpAddr::V6(v6));
                return inside == "::1" || inside.parse().is_ok_and(is_own);
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
            .is_ok_and(|address| is_own_address(listener, address))
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether the listener is reached at this address. One on all addresses doesn't know them, and needn't: what this guards
/// against, a foreign name that leads here, is not an address.
fn is_own_address(listener: SocketAddr, address: IpAddr) -> bool {
    address == listener.ip() || listener.ip().is_unspecified()
}

fn is_own_origin(listener: SocketAddr, origin: &str, names: &[String]) -> bool {
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
        is_named || is_ours(listener, host, names) && port == listener.port().to_string()
    })
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
    use stormhook_store::Scope;

    fn callers() -> Callers {
        let token = Token::of_test("0123456789abcdef");
        let address = "127.0.0.1:8650".parse().unwrap();
        Callers::new(Some(Arc::new(token)), Some(address))
    }

    fn config() -> Config {
        let mut config = Config::builtin("/data".into());
        config.host_names = vec!["hooks.example".to_owned()];
        config
    }

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn of(
        callers: &Callers,
        headers: &[(&'static str, &str)],
        open: bool,
    ) -> Result<Principal, Code> {
        of_client(callers, headers, open, FROM)
    }

    fn of_client(
        callers: &Callers,
        headers: &[(&'static str, &str)],
        open: bool,
        from: IpAddr,
    ) -> Result<Principal, Code> {
        let mut request = http::Request::get("/v1/stats").body(()).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(*name, value);
        }
        let (head, ()) = request.into_parts();
        let config = config();
        let of = callers.of(&head, from, &config, None, open);
        let of = futures_util::FutureExt::now_or_never(of).expect("nothing is asked");
        of.map_err(|p| p.code)
    }

    fn check(headers: &[(&'static str, &str)]) -> Result<(), Code> {
        of(&callers(), headers, false).map(drop)
    }

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
        let listener = "0.0.0.0:8650".parse().unwrap();
        for (host, expected) in [
            ("10.0.0.5:8650", true),
            ("[2001:db8::1]:8650", true),
            ("localhost", true),
            ("evil.example", false),
            ("10.0.0.5.evil.example", false),
        ] {
            assert_eq!(is_ours(listener, host, &[]), expected, "{host}");
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
        let host = ("host", "localhost");
        assert_eq!(of(&callers, &[host], false), Err(Code::TokenMissing));
        assert_eq!(of(&callers, &[host], true), Ok(Principal::anyone()));
        let wrong = ("authorization", "Bearer wrong");
        for _ in 0..FAILURES_OF_ONE {
            assert_eq!(of(&callers, &[host, wrong], false), Err(Code::TokenInvalid));
        }
        let more = of(&callers, &[host, wrong], false);
        assert_eq!(more, Err(Code::TooManyAttempts));
        let other = "192.0.2.1".parse().unwrap();
        let of_other = of_client(&callers, &[host, wrong], false, other);
        assert_eq!(of_other, Err(Code::TokenInvalid));
        let right = ("authorization", "bearer 0123456789abcdef");
        assert_eq!(of(&callers, &[host, right], false), Ok(Principal::admin()));
    }

    #[test]
    fn on_the_socket_a_token_that_is_shown_decides() {
        let token = Arc::new(Token::of_test("0123456789abcdef"));
        let socket = Callers::new(Some(token), None);
        let foreign = ("host", "anything");
        let on_socket = Principal::on_socket(&Scope::ALL);
        assert_eq!(of(&socket, &[foreign], false), Ok(on_socket));
        assert_eq!(
            of(&socket, &[foreign, RIGHT], false),
            Ok(Principal::admin())
        );
        let wrong = ("authorization", "Bearer wrong");
        assert_eq!(of(&socket, &[wrong], false), Err(Code::TokenInvalid));
        let without = Callers::new(None, None);
        assert_eq!(of(&without, &[RIGHT], false), Err(Code::TokenInvalid));
    }

    #[test]
    fn before_the_daemon_has_started_no_key_is_known() {
        let key = key_text::key_text(&[1; 32]);
        let shown = format!("Bearer {}", *key);
        let shown = of(
            &callers(),
            &[("host", "localhost"), ("authorization", &shown)],
            false,
        );
        assert_eq!(shown, Err(Code::Busy));
    }
}

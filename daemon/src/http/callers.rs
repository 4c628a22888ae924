//! Who calls. Over TCP `Host` must be the daemon's own, a foreign `Origin` is refused, and a token authenticates the
//! caller. On the Unix socket a token is optional; one that is shown decides instead of the socket.
//!
//! A valid token always passes. Invalid tokens are counted, so that guessing is slow.

use super::key_text;
use super::principal::Principal;
use super::problem::{Code, Problem};
use super::token::Token;
use super::{Shared, ask};
use crate::config::Config;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stormhook_engine::clock::Moment;

/// How many invalid tokens per second are answered as such; further ones are told to wait.
const FAILURES_PER_SECOND: u32 = 10;

/// See the module.
pub(crate) struct Callers {
    /// The admin token. Without a TCP listener there is none.
    token: Option<Arc<Token>>,
    /// The address of the listener; `None` on the socket.
    listener: Option<SocketAddr>,
    failures: Mutex<Option<(Moment, u32)>>,
}

impl Callers {
    /// Callers over TCP, or, without an address, on the socket.
    pub(crate) fn new(token: Option<Arc<Token>>, listener: Option<SocketAddr>) -> Self {
        Self {
            token,
            listener,
            failures: Mutex::default(),
        }
    }

    /// Returns the caller of a request. `open` routes need no proof. Before the daemon has started there is no `app`.
    pub(crate) async fn of(
        &self,
        head: &Parts,
        config: &Config,
        app: Option<&Shared>,
        open: bool,
    ) -> Result<Principal, Problem> {
        if let Some(listener) = self.listener {
            check_host(listener, &head.uri, &head.headers, &config.host_names)?;
        }
        match head.headers.get(AUTHORIZATION) {
            _ if open => Ok(Principal::anyone()),
            Some(shown) => self.of_token(shown, app).await,
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
        if self.count_failure() > FAILURES_PER_SECOND {
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

    /// Returns the number of failures in this second, including this one.
    fn count_failure(&self) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = match *failures {
            Some((since, count)) if since.elapsed() < Duration::from_secs(1) => {
                (since, count.saturating_add(1))
            }
            _ => (Moment::now(), 1),
        };
        *failures = Some((since, count));
        count
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
                return inside == "::1" || inside.parse().map(IpAddr::V6) == Ok(listener.ip());
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
        || name.parse() == Ok(listener.ip())
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn is_own_origin(listener: SocketAddr, origin: &str, names: &[String]) -> bool {
    let host = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(|host| {
        let (name, port) = host.rsplit_once(':').map_or((host, "80"), |(n, p)| (n, p));
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
    use super::super::token::Text;
    use super::*;
    use stormhook_store::Scope;

    fn callers() -> Callers {
        let token = Token::Own(Text::of_test("0123456789abcdef"));
        let address = "127.0.0.1:8650".parse().unwrap();
        Callers::new(Some(Arc::new(token)), Some(address))
    }

    fn config() -> Config {
        let mut config = Config::builtin("/data".into());
        config.host_names = vec!["hooks.example".to_owned()];
        config
    }

    fn of(
        callers: &Callers,
        headers: &[(&'static str, &str)],
        open: bool,
    ) -> Result<Principal, Code> {
        let mut request = http::Request::get("/v1/stats").body(()).unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(*name, value);
        }
        let (head, ()) = request.into_parts();
        let config = config();
        let of = callers.of(&head, &config, None, open);
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
        let codes: Vec<_> = (0..12)
            .map(|_| of(&callers, &[host, wrong], false).unwrap_err())
            .collect();
        assert_eq!(codes[0], Code::TokenInvalid);
        assert_eq!(codes[11], Code::TooManyAttempts);
        let right = ("authorization", "bearer 0123456789abcdef");
        assert_eq!(of(&callers, &[host, right], false), Ok(Principal::admin()));
    }

    #[test]
    fn on_the_socket_a_token_that_is_shown_decides() {
        let token = Arc::new(Token::Own(Text::of_test("0123456789abcdef")));
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

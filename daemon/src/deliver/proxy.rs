//! Deliveries through a forward proxy: a tunnel by CONNECT (RFC 9110, section 9.3.6). The proxy resolves the receiver's
//! name and must guard its own network; only the form of the URL, and an address in it, are judged here.
//!
//! The proxy's trouble is the operator's, so it is not counted against a receiver: it can't be reached, demands
//! credentials, or doesn't serve CONNECT. What it says of the receiver is counted.

use super::Unconnected;
use super::destination::Target;
use super::dial::{dial, in_turn};
use super::names::{Names, Resolved, Unresolved};
use crate::target::ProxyUrl;
use base64ct::{Base64, Encoding};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stormhook_engine::outcome::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

/// The maximum size of the head of an answer to CONNECT.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// The maximum size of a file of credentials.
const MAX_CREDENTIALS_BYTES: u64 = 1_024;

/// Why a file of credentials can't be used.
#[derive(Debug, thiserror::Error)]
#[error("target.proxy_credentials_file: {path} can't be used: {why}")]
pub struct CredentialsError {
    path: PathBuf,
    why: String,
}

/// The value of `proxy-authorization`. Wiped when dropped, and never printed.
struct Credentials(Zeroizing<String>);

impl Credentials {
    fn read(path: &Path) -> Result<Self, CredentialsError> {
        let unusable = |why: String| CredentialsError {
            path: path.to_owned(),
            why,
        };
        let text = read_file(path).map_err(|error| unusable(error.to_string()))?;
        Self::of(&text).ok_or_else(|| {
            unusable(format!(
                "it must hold user:password on one line, at most {MAX_CREDENTIALS_BYTES} bytes"
            ))
        })
    }

    /// Takes `user:password` (RFC 7617, section 2).
    fn of(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let (user, _) = text.split_once(':')?;
        if user.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        let encoded = Zeroizing::new(Base64::encode_string(text.as_bytes()));
        Some(Self(Zeroizing::new(format!("Basic {}", *encoded))))
    }
}

fn read_file(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "the proxy's credentials are readable by users other than their owner; set the file's mode to 0600"
        );
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_CREDENTIALS_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CREDENTIALS_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(text)
}

/// See the module.
pub(super) struct Proxy {
    url: ProxyUrl,
    credentials: Option<Credentials>,
}

/// What a proxy answered to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// Whether it says how to authenticate.
    challenges: bool,
}

impl Proxy {
    /// Reads the credentials, if there are any.
    pub(super) fn new(url: ProxyUrl, credentials: Option<&Path>) -> Result<Self, CredentialsError> {
        let credentials = credentials.map(Credentials::read).transpose()?;
        Ok(Self { url, credentials })
    }

    /// Opens a tunnel to `target` before the deadline.
    pub(super) async fn tunnel(
        &self,
        target: &Target,
        names: &Names,
        deadline: Instant,
    ) -> Result<TcpStream, Unconnected> {
        let mut stream = self.reach(names, deadline).await?;
        // Its request is one write, and what follows is too.
        let _ = stream.set_nodelay(true);
        let asking = self.ask(&mut stream, target);
        match timeout_at(deadline, asking).await {
            Ok(Ok(answer)) => self.judge(answer, target).map(|()| stream),
            Ok(Err(why)) => Err(self.trouble(why)),
            // It is reached, so it most likely waits for the receiver.
            Err(_) => {
                let why = format!("did not connect to {} in time", target.origin());
                Err((Failure::Connect, self.words(why)).into())
            }
        }
    }

    async fn reach(&self, names: &Names, deadline: Instant) -> Result<TcpStream, Unconnected> {
        let unreachable = |why: String| self.trouble(format!("can't be reached: {why}"));
        let resolved = match self.url.host() {
            Ok(address) => Resolved::known([address]),
            Err(name) => names.look_up(name, deadline).await.map_err(|unresolved| {
                let (Unresolved::Ours(why) | Unresolved::Theirs(why)) = unresolved;
                unreachable(why)
            })?,
        };
        let port = self.url.port();
        let addresses = in_turn(
            resolved
                .addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, port)),
        );
        let late = async {
            let all = resolved.late().await;
            let all = all.iter().flat_map(|all| all.iter());
            all.map(|ip| SocketAddr::new(*ip, port)).collect()
        };
        let dialled = dial(addresses, late, deadline, TcpStream::connect);
        dialled.await.map_err(|missed| unreachable(missed.why))
    }

    /// Sends the request and reads the head of the answer.
    async fn ask(&self, stream: &mut TcpStream, target: &Target) -> Result<Answer, String> {
        let closed = |error: io::Error| format!("failed: it {}", super::fault::words(&error));
        let request = self.request(target);
        let sent = stream.write_all(request.as_bytes()).await;
        sent.map_err(closed)?;
        let mut head = Vec::with_capacity(1_024);
        let mut limited = stream.take(MAX_HEAD_BYTES);
        loop {
            let read = limited.read_buf(&mut head).await;
            if read.map_err(closed)? == 0 {
                return Err(match limited.limit() {
                    0 => "answered with too many headers".to_owned(),
                    _ => "closed the connection before it answered".to_owned(),
                });
            }
            if let Some(answer) = answer(&head)? {
                return Ok(answer);
            }
        }
    }

    fn request(&self, target: &Target) -> Zeroizing<String> {
        let authority = format!("{}:{}", target.url().host(), target.url().port());
        let line = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n");
        Zeroizing::new(match &self.credentials {
            None => format!("{line}\r\n"),
            Some(Credentials(value)) => {
                format!("{line}proxy-authorization: {}\r\n\r\n", **value)
            }
        })
    }

    /// Decides what an answer means, and whose fault it is.
    fn judge(&self, answer: Answer, target: &Target) -> Result<(), Unconnected> {
        let origin = target.origin();
        let status = answer.status;
        let trouble = |why: String| Err(self.trouble(why));
        // Without a challenge it is not about credentials: some proxies refuse a target like that.
        let is_refusal = status == 407 && !answer.challenges;
        match status {
            200..=299 => Ok(()),
            // Tinyproxy answers 401 to wrong credentials.
            401 | 407 if !is_refusal => trouble(match self.credentials {
                None => format!(
                    "demands credentials (status {status}); set target.proxy_credentials_file"
                ),
                Some(_) => format!(
                    "refused the credentials in target.proxy_credentials_file (status {status})"
                ),
            }),
            403 | 407 | 451 => {
                let why = format!("refused {origin} with status {status}");
                Err((Failure::TargetRefused, self.words(why)).into())
            }
            500 | 502 | 503 | 504 => {
                let why =
                    format!("could not connect to {origin}: it answered with status {status}");
                Err((Failure::Connect, self.words(why)).into())
            }
            _ => trouble(format!(
                "refused with status {status}; check that target.proxy is a forward proxy that allows CONNECT"
            )),
        }
    }

    fn words(&self, why: impl std::fmt::Display) -> String {
        format!("the proxy {} {why}", self.url)
    }

    fn trouble(&self, why: impl std::fmt::Display) -> Unconnected {
        Unconnected::OurTrouble(self.words(why))
    }
}

/// Reads the final answer; `None` if it is not complete.
///
/// # Errors
/// It is not HTTP, or something follows although no request was sent yet.
fn answer(mut head: &[u8]) -> Result<Option<Answer>, String> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(head);
        let parsed = parsed.map_err(|_| "did not answer in HTTP".to_owned())?;
        let httparse::Status::Complete(end) = parsed else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        let rest = head.get(end..).unwrap_or_default();
        if (100..200).contains(&status) {
            head = rest;
            continue;
        }
        if (200..300).contains(&status) && !rest.is_empty() {
            return Err("sent something before it was asked".to_owned());
        }
        let challenge =
            |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("proxy-authenticate");
        let challenges = response.headers.iter().any(|header| challenge(&header));
        return Ok(Some(Answer { status, challenges }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetPolicy;

    fn proxy(credentials: Option<&str>) -> Proxy {
        Proxy {
            url: "http://proxy.test:3128".parse().unwrap(),
            credentials: credentials.map(|text| Credentials::of(text).unwrap()),
        }
    }

    fn target(url: &str) -> Target {
        Target::new(url, &TargetPolicy::default()).unwrap()
    }

    #[test]
    fn the_request_names_host_and_port_and_carries_the_credentials() {
        let request = |url: &str, credentials| proxy(credentials).request(&target(url)).to_string();
        assert_eq!(
            request("https://partner.example/hooks?a=b", None),
            "CONNECT partner.example:443 HTTP/1.1\r\nhost: partner.example:443\r\n\r\n"
        );
        // RFC 7617, section 2.
        assert_eq!(
            request("https://[2600::1]:8443/", Some("Aladdin:open sesame\n")),
            "CONNECT [2600::1]:8443 HTTP/1.1\r\nhost: [2600::1]:8443\r\nproxy-authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    #[test]
    fn credentials_are_one_line_of_user_and_password() {
        for good in ["u:p", "u:", "u:p:q", "u:p\n", "u:p\r\n", "ü:ß"] {
            assert!(Credentials::of(good).is_some(), "{good:?}");
        }
        for bad in ["", "u", ":p", "u:p\nx", "u:\0", "u:p\n\n"] {
            assert!(Credentials::of(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_is_read_to_the_end_of_its_head() {
        let of = |text: &str| answer(text.as_bytes());
        let plain = |status, challenges| Ok(Some(Answer { status, challenges }));
        assert_eq!(
            of("HTTP/1.1 200 Connection established\r\n\r\n"),
            plain(200, false)
        );
        assert_eq!(of("HTTP/1.0 200\r\nvia: 1.1 a\r\n\r\n"), plain(200, false));
        assert_eq!(
            of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            plain(200, false)
        );
        assert_eq!(
            of("HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nno"),
            plain(502, false)
        );
        let challenge = "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\r\n";
        assert_eq!(of(challenge), plain(407, true));
        for part in [
            "",
            "HTTP/1.1 2",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ] {
            assert_eq!(of(part), Ok(None), "{part:?}");
        }
        for bad in [
            "SSH-2.0-x\r\n\r\n",
            "\x16\x03\x01\x02",
            "HTTP/1.1 200 OK\r\n\r\nx",
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    /// Returns the failure, or `None` for the operator's trouble, with its words.
    fn judged(answer: Answer, credentials: Option<&str>) -> (Option<Failure>, String) {
        let to = target("https://partner.example/");
        match proxy(credentials).judge(answer, &to) {
            Ok(()) => panic!("{answer:?} is a tunnel"),
            Err(Unconnected::Failed((failure, why))) => (Some(failure), why),
            Err(Unconnected::OurTrouble(why)) => (None, why),
        }
    }

    #[test]
    fn each_status_of_a_proxy_has_somebody_at_fault() {
        let connect = Some(Failure::Connect);
        let refused = Some(Failure::TargetRefused);
        for (status, challenges, fault, says) in [
            (
                500,
                false,
                connect,
                "could not connect to https://partner.example:443: it answered with status 500",
            ),
            (502, false, connect, "with status 502"),
            (503, false, connect, "with status 503"),
            (504, false, connect, "with status 504"),
            (
                403,
                false,
                refused,
                "refused https://partner.example:443 with status 403",
            ),
            (407, false, refused, "with status 407"),
            (451, false, refused, "with status 451"),
            (
                407,
                true,
                None,
                "demands credentials (status 407); set target.proxy_credentials_file",
            ),
            (401, true, None, "demands credentials (status 401)"),
            (
                301,
                false,
                None,
                "refused with status 301; check that target.proxy is a forward proxy",
            ),
            (400, false, None, "status 400"),
            (404, false, None, "status 404"),
            (405, false, None, "status 405"),
            (429, false, None, "status 429"),
            (501, false, None, "status 501"),
        ] {
            let (failure, why) = judged(Answer { status, challenges }, None);
            assert_eq!(failure, fault, "{status}: {why}");
            assert!(why.contains(says), "{why}");
            assert!(
                why.starts_with("the proxy http://proxy.test:3128 "),
                "{why}"
            );
        }
        let answer = Answer {
            status: 407,
            challenges: true,
        };
        let (failure, why) = judged(answer, Some("user:hunter2"));
        assert_eq!(failure, None);
        assert!(why.contains("refused the credentials"), "{why}");
        for status in [200, 204] {
            let answer = Answer {
                status,
                challenges: false,
            };
            assert!(
                proxy(None)
                    .judge(answer, &target("https://partner.example/"))
                    .is_ok()
            );
        }
    }
}

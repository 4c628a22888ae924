//! A daemon elsewhere: how its address, the token and the certificates to trust are named, and how it is reached.
//!
//! The token is read from a file and goes only to a daemon whose certificate was verified, or over loopback.

mod address;
mod words;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use stormhook_daemon::deliver::{TrustError, trusting};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::terminal::plain;
use address::{Address, Scheme};

/// How long connecting may take: name look-up, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens and keys are shorter than 100 bytes.
const TOKEN_FILE_BYTES: u64 = 4_096;
/// How many addresses of a name are tried.
const ADDRESSES: usize = 8;

/// A stream to a daemon.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A daemon elsewhere, as it is named on the command line or in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its URL.
    pub(crate) url: String,
    /// Whether `--server` names it, rather than `STORMHOOK_SERVER`.
    pub(crate) by_flag: bool,
    /// The file with the token.
    pub(crate) token_file: Option<PathBuf>,
    /// A file with certificates to trust.
    pub(crate) ca_file: Option<PathBuf>,
}

/// See the module.
pub(crate) struct Remote {
    address: Address,
    authorization: HeaderValue,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.address)
    }
}

impl Remote {
    /// Reads what is needed to reach a daemon; connects to nothing.
    pub(crate) fn of(named: &Named) -> Result<Self, Failure> {
        let address = Address::parse(&named.url).map_err(Failure::Usage)?;
        let Some(token_file) = &named.token_file else {
            return Err(Failure::Usage(
                "a remote daemon needs a token: name a file that holds one, with --token-file FILE or STORMHOOK_TOKEN_FILE".to_owned(),
            ));
        };
        let tls = match address.scheme {
            Scheme::Https => Some(connector(named.ca_file.as_deref())?),
            Scheme::Http => None,
        };
        Ok(Self {
            address,
            authorization: bearer(token_file)?,
            tls,
        })
    }

    /// Returns the URL.
    pub(crate) fn shown(&self) -> String {
        self.address.to_string()
    }

    /// Returns the value of `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.address.authority
    }

    /// Returns the value of `Authorization`.
    pub(crate) fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// Connects, and verifies the daemon's certificate.
    pub(crate) async fn connect(&self) -> Result<Pin<Box<dyn Stream>>, Failure> {
        let connecting = async {
            let stream = self.dial().await?;
            let _slower = stream.set_nodelay(true);
            let Some(tls) = &self.tls else {
                return Ok(Box::pin(stream) as Pin<Box<dyn Stream>>);
            };
            let name = self.address.server_name();
            match tls.connect(name, stream).await {
                Ok(stream) => Ok(Box::pin(stream) as Pin<Box<dyn Stream>>),
                Err(error) => Err(words::of_handshake(&error, &self.address.host)),
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        connected
            .unwrap_or_else(|_| {
                Err(format!(
                    "no connection within {} s: check the host, the port and the firewall",
                    CONNECT_TIMEOUT.as_secs()
                ))
            })
            .map_err(|why| {
                Failure::Unreachable(format!("no daemon is reachable at {}: {why}", self.shown()))
            })
    }

    async fn dial(&self) -> Result<TcpStream, String> {
        let Address { host, port, .. } = &self.address;
        let found = tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|error| format!("{} can't be resolved: {error}", plain(host)))?;
        let is_allowed = |address: &std::net::SocketAddr| {
            self.address.scheme == Scheme::Https || address.ip().to_canonical().is_loopback()
        };
        let mut why = format!("{} has no usable address", plain(host));
        for address in found.filter(is_allowed).take(ADDRESSES) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => why = format!("{address}: {error}"),
            }
        }
        Err(why)
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Failure> {
    let roots: Vec<PathBuf> = ca_file.map(Path::to_owned).into_iter().collect();
    let mut config = trusting(&roots).map_err(|error| {
        Failure::Usage(match error {
            TrustError::Unreadable { path, why } => format!(
                "--ca-file: {} can't be read as PEM certificates: {why}",
                path.display()
            ),
            TrustError::Empty(path) => {
                format!("--ca-file: {} contains no certificate", path.display())
            }
            error @ TrustError::Tls(_) => error.to_string(),
        })
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Reads a token, as the value of `Authorization`.
fn bearer(file: &Path) -> Result<HeaderValue, Failure> {
    let mut text = Zeroizing::new(String::new());
    let reading =
        File::open(file).and_then(|opened| opened.take(TOKEN_FILE_BYTES).read_to_string(&mut text));
    reading.map_err(|error: io::Error| {
        Failure::local(&format!("read the token file {}", file.display()), &error)
    })?;
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = Zeroizing::new(format!("Bearer {token}"));
    match HeaderValue::from_str(&value) {
        Ok(mut value) if is_token => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err(Failure::Usage(format!(
            "the token file {} holds no token: it must hold one line of visible characters, as the daemon's admin-token",
            file.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str, token_file: Option<&Path>) -> Named {
        Named {
            url: url.to_owned(),
            by_flag: true,
            token_file: token_file.map(Path::to_owned),
            ca_file: None,
        }
    }

    fn refused(named: &Named) -> String {
        match Remote::of(named) {
            Err(Failure::Usage(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_a_usage_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let url = "http://127.0.0.1:1";
        assert!(refused(&named(url, None)).contains("--token-file FILE"));
        assert!(refused(&named(url, Some(&file))).contains("token"));
        for text in ["", "\n", "two words", "a\nb", "ümlaut"] {
            std::fs::write(&file, text).unwrap();
            let said = refused(&named(url, Some(&file)));
            assert!(said.contains("holds no token"), "{text:?}: {said}");
        }
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let remote = Remote::of(&named(url, Some(&file))).unwrap();
        assert_eq!(remote.authorization(), "Bearer 0123456789abcdef");
        let shown = format!("{remote:?} {:?}", remote.authorization());
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        let without = Named {
            ca_file: Some(file.clone()),
            ..named("https://127.0.0.1:1", Some(&file))
        };
        assert!(refused(&without).contains("--ca-file"), "{without:?}");
    }
}

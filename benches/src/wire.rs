//! One bare HTTP/1.1 connection over a Unix socket or TCP: the same client for the ceiling, for the load and
//! for the calls that set a scenario up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::error::{BenchError, Doing, Result};

/// The target of requests.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A Unix socket's path.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

impl FromStr for Target {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("unix", path)) => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp", address)) => Ok(Self::Tcp(address.parse().doing("reading --to")?)),
            _ => Err(BenchError::wrong(format!(
                "--to: expected unix:PATH or tcp:ADDRESS, got {text:?}"
            ))),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Opens a keep-alive connection.
pub(crate) async fn connect<B>(target: &Target) -> Result<SendRequest<B>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            handshake(stream.doing(format!("connecting to {target}"))?).await
        }
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await;
            let stream = stream.doing(format!("connecting to {target}"))?;
            stream.set_nodelay(true).doing("setting TCP_NODELAY")?;
            handshake(stream).await
        }
    }
}

async fn handshake<S, B>(stream: S) -> Result<SendRequest<B>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .doing("the HTTP handshake")?;
    // The connection ends with an error if either side closes it in the middle. A request on it gets the same
    // error.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

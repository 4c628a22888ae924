//! A new connection: the name is looked up once, all its addresses are judged, and one of those very addresses is connected to.

use super::destination::Target;
use super::{Failed, MAX_RESPONSE_HEADER_BYTES, Settings};
use crate::outcome::Failure;
use crate::target::{Judgement, TargetPolicy};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 8;
/// What a partner may send us ahead, by stream and by connection: answers are read up to a bound that is in this order.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What travels.
pub(super) type Body = Full<Bytes>;

/// A connection nothing was sent over yet.
pub(super) enum Opened {
    /// One request at a time.
    Http1(http1::SendRequest<Body>),
    /// Many at a time.
    Http2(http2::SendRequest<Body>),
}

/// Opens connections.
pub(super) struct Connector {
    connect_timeout: Duration,
    policy: TargetPolicy,
    tls: TlsConnector,
}

/// How far a connection has come, for the name of its failure.
const LOOKING_UP: u8 = 0;
const CONNECTING: u8 = 1;
const SHAKING_HANDS: u8 = 2;

impl Connector {
    pub(super) fn new(settings: &Settings, tls: Arc<ClientConfig>) -> Self {
        Self {
            connect_timeout: settings.connect_timeout,
            policy: settings.policy.clone(),
            tls: TlsConnector::from(tls),
        }
    }

    /// Opens a connection to `target` within the time for it.
    pub(super) async fn open(&self, target: &Target) -> Result<Opened, Failed> {
        let stage = AtomicU8::new(LOOKING_UP);
        let opening = self.open_in_stages(target, &stage);
        match timeout(self.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => {
                let (failure, what) = match stage.load(Ordering::Relaxed) {
                    LOOKING_UP => (Failure::Dns, "the look-up"),
                    CONNECTING => (Failure::Connect, "the connection"),
                    _ => (Failure::Tls, "the TLS handshake"),
                };
                let why = format!(
                    "{what} to {} took longer than {:?}",
                    target.origin(),
                    self.connect_timeout
                );
                Err((failure, why))
            }
        }
    }

    async fn open_in_stages(&self, target: &Target, stage: &AtomicU8) -> Result<Opened, Failed> {
        let addresses = look_up(target).await?;
        self.judge(target, &addresses)?;
        stage.store(CONNECTING, Ordering::Relaxed);
        let stream = self.connect(target, &addresses).await?;
        if !target.url().is_https() {
            return http1(stream).await;
        }
        stage.store(SHAKING_HANDS, Ordering::Relaxed);
        let stream = self
            .tls
            .connect(target.server_name(), stream)
            .await
            .map_err(|error| (Failure::Tls, format!("{}: {error}", target.origin())))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2(stream).await
        } else {
            http1(stream).await
        }
    }

    fn judge(&self, target: &Target, addresses: &[SocketAddr]) -> Result<(), Failed> {
        let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        match self.policy.judge_all(target.url(), &ips) {
            Judgement::Allowed => Ok(()),
            Judgement::NoAddress => {
                let why = format!("{} has no address", target.url().host());
                Err((Failure::Dns, why))
            }
            Judgement::Refused(refusal) => Err((Failure::TargetRefused, refusal.to_string())),
        }
    }

    /// Tries the addresses in their order; each but the last gets its share of the time only.
    async fn connect(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
    ) -> Result<TcpStream, Failed> {
        let tried = &addresses[..addresses.len().min(MAX_ADDRESSES)];
        let share = self.connect_timeout / u32::try_from(tried.len()).unwrap_or(1).max(1);
        let mut last = format!("{} has no address", target.url().host());
        for address in tried {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request is one write and waits for its answer: nothing is gained by holding bytes back.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = format!("connecting to {address}: {error}"),
                Err(_) => last = format!("connecting to {address}: no answer within {share:?}"),
            }
        }
        Err((Failure::Connect, last))
    }
}

async fn look_up(target: &Target) -> Result<Vec<SocketAddr>, Failed> {
    let url = target.url();
    if let Some(address) = url.address() {
        return Ok(vec![SocketAddr::new(address, url.port())]);
    }
    let name = url.name().unwrap_or_default();
    match lookup_host((name, url.port())).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err((Failure::Dns, format!("looking up {name}: {error}"))),
    }
}

fn unusable(error: &hyper::Error) -> Failed {
    (
        Failure::Protocol,
        format!("the connection is unusable: {error}"),
    )
}

async fn http1<S>(stream: S) -> Result<Opened, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_RESPONSE_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unusable(&error))?;
    // Its errors reach whoever waits for an answer.
    tokio::spawn(connection);
    Ok(Opened::Http1(sender))
}

async fn http2<S>(stream: S) -> Result<Opened, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_bytes = u32::try_from(MAX_RESPONSE_HEADER_BYTES).unwrap_or(u32::MAX);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unusable(&error))?;
    tokio::spawn(connection);
    Ok(Opened::Http2(sender))
}

//! A new connection: the name is looked up once, all its addresses are judged, and one of those very addresses is connected to.

use super::destination::Target;
use super::line::{Body, Line};
use super::{Failed, MAX_RESPONSE_HEADER_BYTES, MAX_RESPONSE_HEADERS, Settings};
use crate::outcome::Failure;
use crate::target::{Judgement, TargetPolicy};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 8;
/// Names looked up at once: each takes one of the threads that also answer questions about the store, for as long as the
/// resolver pleases.
const MAX_LOOKUPS: usize = 64;
/// What a partner may send us ahead, by stream and by connection: answers are read up to a bound that is in this order.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// A connection nothing was sent over yet.
pub(super) enum Opened {
    /// One request at a time.
    Http1(Line),
    /// Many at a time, as many as the partner takes.
    Http2(http2::SendRequest<Body>, Arc<dyn Streams>),
}

/// How many requests the partner of an HTTP/2 connection takes at once.
pub(super) trait Streams: Send + Sync {
    fn most(&self) -> usize;
}

/// An HTTP/2 connection, driven by a task of its own and asked from elsewhere what its partner said last.
struct Driven<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    Mutex<http2::Connection<TokioIo<S>, Body, TokioExecutor>>,
);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Streams for Driven<S> {
    fn most(&self) -> usize {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.current_max_send_streams()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driven<S> {
    /// Resolves when the connection is over. Its errors reach whoever waits for an answer.
    async fn run(self: Arc<Self>) {
        std::future::poll_fn(|context| {
            let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Pin::new(&mut *connection).poll(context).map(drop)
        })
        .await;
    }
}

/// Opens connections.
pub(super) struct Connector {
    connect_timeout: Duration,
    policy: TargetPolicy,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
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
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
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
        let addresses = self.look_up(target).await?;
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

    async fn look_up(&self, target: &Target) -> Result<Vec<SocketAddr>, Failed> {
        let url = target.url();
        if let Some(address) = url.address() {
            return Ok(vec![SocketAddr::new(address, url.port())]);
        }
        let name = url.name().unwrap_or_default();
        let failed = |why: &dyn std::fmt::Display| {
            let why = format!("looking up {name}: {why}");
            (Failure::Dns, why)
        };
        let place = Arc::clone(&self.lookups).acquire_owned().await;
        let place = place.map_err(|e| failed(&e))?;
        let asked = (name.to_owned(), url.port());
        let asking = tokio::task::spawn_blocking(move || {
            // Who waits may give up before the resolver does: the place is taken until then.
            let _place = place;
            asked.to_socket_addrs()
        });
        match asking.await {
            Ok(Ok(found)) => Ok(found.collect()),
            Ok(Err(e)) => Err(failed(&e)),
            Err(e) => Err(failed(&e)),
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
        // More than the bound on headers: whether a read ahead of it fits is no question of theirs.
        .max_buf_size(2 * MAX_RESPONSE_HEADER_BYTES)
        .max_headers(MAX_RESPONSE_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unusable(&error))?;
    Ok(Opened::Http1(Line::new(sender, connection)))
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
        // Until the partner has said how many it takes at once.
        .initial_max_send_streams(1)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unusable(&error))?;
    let driven = Arc::new(Driven(Mutex::new(connection)));
    tokio::spawn(Arc::clone(&driven).run());
    Ok(Opened::Http2(sender, driven))
}

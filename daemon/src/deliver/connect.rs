//! A new connection: the name is looked up once, all its addresses are judged, and one of those very addresses is connected to.
//! Whatever fails says whose trouble it is.

use super::destination::Target;
use super::dial::{Missed, dial, in_turn};
use super::fault::Fault;
use super::line::{Body, Line};
use super::names::{Names, Resolved, Sources, Unresolved};
use super::secured::Secured;
use super::{
    Failed, MAX_RESPONSE_HEADER_BYTES, MAX_RESPONSE_HEADERS, Settings, Unanswered, tls_words,
};
use crate::clock;
use crate::outcome::Failure;
use crate::target::{Judgement, TargetPolicy};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

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
    names: Names,
}

impl Connector {
    pub(super) fn new(settings: &Settings, tls: Arc<ClientConfig>) -> Self {
        let sources = Sources::of_machine(settings.name_servers.clone());
        Self {
            connect_timeout: settings.connect_timeout,
            policy: settings.policy.clone(),
            tls: TlsConnector::from(tls),
            names: Names::new(sources, settings.connect_timeout),
        }
    }

    /// Opens a connection to `target` within the time for it.
    pub(super) async fn open(&self, target: &Target) -> Result<Opened, Unanswered> {
        let deadline = clock::deadline(self.connect_timeout);
        let stream = self.connect(target, deadline).await?;
        // A request is one write and waits for its answer: nothing is gained by holding bytes back.
        let _ = stream.set_nodelay(true);
        if !target.url().is_https() {
            return Ok(http1(stream).await?);
        }
        let handshake = self.tls.connect(target.server_name(), stream);
        let stream = match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let why = format!("{}: {}", target.origin(), tls_words::io_words(&error));
                return Err((Failure::Tls, why).into());
            }
            Err(_) => {
                let why = format!(
                    "the TLS handshake with {} took longer than {:?}",
                    target.origin(),
                    self.connect_timeout
                );
                return Err((Failure::Tls, why).into());
            }
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Secured(stream);
        let opened = if is_http2 {
            http2(stream).await
        } else {
            http1(stream).await
        };
        Ok(opened?)
    }

    async fn connect(&self, target: &Target, deadline: Instant) -> Result<TcpStream, Unanswered> {
        let port = target.url().port();
        let with_port = |ip: &IpAddr| SocketAddr::new(*ip, port);
        let resolved = self.look_up(target, deadline).await?;
        self.judge(target, &resolved.addresses)?;
        let addresses = in_turn(resolved.addresses.iter().map(with_port));
        let late = async {
            // One refused address refuses the late ones: those in the race already were all judged before.
            match resolved.late().await {
                Some(all) if self.judge(target, &all).is_ok() => {
                    all.iter().map(with_port).collect()
                }
                _ => Vec::new(),
            }
        };
        let dialled = dial(addresses, late, deadline, TcpStream::connect);
        dialled.await.map_err(|Missed { fault, why }| {
            let why = format!("connecting to {}: {why}", target.origin());
            match fault {
                Fault::Ours => Unanswered::OurTrouble(why),
                Fault::Partner => (Failure::Connect, why).into(),
            }
        })
    }

    async fn look_up(&self, target: &Target, deadline: Instant) -> Result<Resolved, Unanswered> {
        let url = target.url();
        if let Some(address) = url.address() {
            return Ok(Resolved::known([address]));
        }
        let name = url.name().unwrap_or_default();
        let found = self.names.look_up(name, deadline).await;
        found.map_err(|unresolved| match unresolved {
            Unresolved::Ours(why) => Unanswered::OurTrouble(why),
            Unresolved::Theirs(why) => (Failure::Dns, why).into(),
        })
    }

    fn judge(&self, target: &Target, addresses: &[IpAddr]) -> Result<(), Failed> {
        match self.policy.judge_all(target.url(), addresses) {
            Judgement::Allowed => Ok(()),
            Judgement::NoAddress => {
                let why = format!("{} has no address", target.url().host());
                Err((Failure::Dns, why))
            }
            Judgement::Refused(refusal) => Err((Failure::TargetRefused, refusal.to_string())),
        }
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

//! The listener for other daemons on the same database: TLS with this daemon's own key, HTTP/2.

use super::front::Front;
use super::socket::ListenError;
use super::tcp;
use crate::peers::certificate::Certificate;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// Connections from other daemons. Each has one.
const CONNECTIONS: usize = 1_024;
/// Calls in progress on one connection.
const CALLS: u32 = 4_096;
/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often a connection without traffic is checked, and how long the answer may take.
const PING: Duration = Duration::from_secs(5);

/// A listener for other daemons, bound and not served yet.
#[derive(Debug)]
pub(crate) struct PeerListener {
    listener: TcpListener,
    address: SocketAddr,
    certificate: Certificate,
}

impl PeerListener {
    pub(crate) async fn bind(
        address: SocketAddr,
        certificate: Certificate,
    ) -> Result<Self, ListenError> {
        let (listener, address) = tcp::bind(address, "listening for other daemons on").await?;
        Ok(Self {
            listener,
            address,
            certificate,
        })
    }

    /// Returns the address, with the port that was picked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate that it shows.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate.der
    }
}

/// Accepts connections until they should finish.
pub(super) async fn accept(bound: PeerListener, front: Front) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let acceptor = TlsAcceptor::from(bound.certificate.server);
    let closing = front.closing();
    tokio::pin!(closing);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing => break,
            accepted = bound.listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let (acceptor, front) = (acceptor.clone(), front.clone());
        connections.spawn(async move {
            connection(stream, acceptor, front).await;
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, front: Front) {
    let _slower = stream.set_nodelay(true);
    let accepting = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let Ok(Ok(stream)) = accepting.await else {
        return;
    };
    let closing = front.closing();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(stream), front);
    tokio::pin!(connection);
    tokio::select! {
        _over = connection.as_mut() => {}
        () = closing => {
            connection.as_mut().graceful_shutdown();
            let _over = connection.await;
        }
    }
}

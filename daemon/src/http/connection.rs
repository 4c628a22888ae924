//! One connection of a caller: its slot among `limits.connections`, and how it is served or refused.

use super::bare::Told;
use super::front::Front;
use super::http2;
use super::secured::Secured;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

/// How much of a request is read ahead, and how many header fields. Both are above the bounds of a request, so that a
/// request above its bounds gets a full response; beyond these too, by [`Told`].
const READ_AHEAD_BYTES: usize = 64 << 10;
const HEADERS_READ: usize = 256;
/// How long a refused connection may take.
const REFUSAL: Duration = Duration::from_secs(2);

/// A connection as accepted.
pub(super) enum Accepted {
    /// On the socket.
    Unix(UnixStream),
    /// Over TCP, from this address.
    Tcp(TcpStream, SocketAddr),
}

/// What each connection of a listener needs.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) front: Front,
    /// How many slots this listener may use.
    pub(super) own: Arc<Semaphore>,
    pub(super) room: Arc<Semaphore>,
    pub(super) idle: Duration,
    /// TLS, if the listener speaks it.
    pub(super) secured: Option<Secured>,
}

/// The slot of a connection.
pub(super) type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Serving {
    /// Waits for a slot.
    pub(super) async fn place(&self) -> Option<Place> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let shared = Arc::clone(&self.room).acquire_owned().await.ok()?;
        Some((own, shared))
    }

    /// Answers one request of a connection that has no slot, and closes it.
    pub(super) async fn refuse(self, accepted: Accepted) {
        let refusing = async {
            match accepted {
                Accepted::Unix(stream) => self.refuse_stream(stream).await,
                Accepted::Tcp(stream, _) => match &self.secured {
                    None => self.refuse_stream(stream).await,
                    Some(tls) => {
                        if let Some(stream) = tls.accept_to_refuse(stream, &self.front).await {
                            self.refuse_stream(stream).await;
                        }
                    }
                },
            }
        };
        let _told = tokio::time::timeout(REFUSAL, refusing).await;
    }

    async fn refuse_stream(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REFUSAL)
            .max_headers(HEADERS_READ)
            .keep_alive(false)
            .serve_connection(
                TokioIo::new(Told::new(stream, self.front.clone())),
                self.front.clone().over_capacity(),
            );
        let _told = connection.await;
    }

    /// Serves one connection until it ends, or until connections should finish and its requests are answered.
    pub(super) async fn connection(self, accepted: Accepted) {
        match accepted {
            Accepted::Unix(stream) => self.http1(stream).await,
            Accepted::Tcp(stream, from) => {
                let Self { front, .. } = self;
                let serving = Self {
                    front: front.called_from(from.ip()),
                    ..self
                };
                serving.tcp(stream).await;
            }
        }
    }

    async fn tcp(self, stream: TcpStream) {
        let Some(tls) = &self.secured else {
            return self.http1(stream).await;
        };
        let closing = self.front.closing();
        let accepted = tokio::select! {
            accepted = tls.accept(stream, &self.front) => accepted,
            () = closing => None,
        };
        match accepted {
            Some((stream, true)) => {
                let stream = impatient(stream, self.idle);
                http2::serve(stream, self.front, self.idle).await;
            }
            Some((stream, false)) => self.http1(stream).await,
            None => {}
        }
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let closing = self.front.closing();
        let stream = impatient(stream, self.idle);
        let io = TokioIo::new(Told::new(stream, self.front.clone()));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .max_headers(HEADERS_READ)
            .max_buf_size(READ_AHEAD_BYTES)
            .half_close(true)
            .serve_connection(io, self.front);
        tokio::pin!(connection);
        tokio::select! {
            // A client that disconnected or didn't send HTTP has been answered as far as possible.
            _over = connection.as_mut() => {}
            () = closing => {
                connection.as_mut().graceful_shutdown();
                let _over = connection.await;
            }
        }
    }
}

/// Returns the stream, which ends if its peer reads nothing for so long.
fn impatient<S>(stream: S, idle: Duration) -> std::pin::Pin<Box<TimeoutStream<S>>>
where
    S: AsyncRead + AsyncWrite,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(idle));
    Box::pin(stream)
}

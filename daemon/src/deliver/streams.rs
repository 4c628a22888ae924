//! An HTTP/2 connection, shared by many requests. Its own task reads and writes for all of them, and pings the receiver
//! at intervals.

use super::http1::is_end;
use super::statuses::Statuses;
use super::{Failed, MAX_RESPONSE_HEADER_BYTES};
use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::{Request, Response};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use stormhook_engine::outcome::Failure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How much a receiver may send ahead, per stream and per connection. The bound on what is read of a response has this
/// order of magnitude.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How often a receiver that owes a response is pinged, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(5);
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection that nobody uses any more has to close. A receiver that doesn't read would keep it open.
const GOODBYE: Duration = Duration::from_secs(2);

/// See the module. Clones share the connection.
#[derive(Clone)]
pub(super) struct Streams {
    sender: SendRequest<Bytes>,
    health: Arc<Health>,
    in_use: InUse,
}

/// Held by whoever uses the connection. The connection's task learns when the last one is dropped.
type InUse = Arc<oneshot::Sender<Infallible>>;

/// The state that the connection's task and its requests share.
#[derive(Default)]
struct Health {
    /// The number of requests without a response.
    waiting: AtomicUsize,
    /// Whether the receiver failed to answer a PING.
    hung: AtomicBool,
    /// The statuses of responses, including malformed ones.
    statuses: Mutex<Statuses>,
}

impl Health {
    /// A panic leaves them usable: they are only a hint.
    fn statuses(&self) -> std::sync::MutexGuard<'_, Statuses> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress.
pub(super) struct Stream {
    response: ResponseFuture,
    upload: Upload,
    health: Arc<Health>,
    _in_use: InUse,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.health.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body, sent as fast as the receiver accepts it.
struct Upload {
    stream: SendStream<Bytes>,
    left: Bytes,
    over: bool,
}

impl Streams {
    /// Starts HTTP/2 on a connection.
    pub(super) async fn open<S>(io: S) -> Result<Self, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let header_bytes = u32::try_from(MAX_RESPONSE_HEADER_BYTES).unwrap_or(u32::MAX);
        let health = Arc::new(Health::default());
        let (sender, mut connection) = h2::client::Builder::new()
            .max_header_list_size(header_bytes)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            // Until the receiver announces its limit of concurrent streams.
            .initial_max_send_streams(1)
            .handshake(ReadOut {
                io,
                broken: false,
                health: health.clone(),
            })
            .await
            .map_err(|e| {
                let why = format!("the connection is unusable: {e}");
                (Failure::Protocol, why)
            })?;
        let pings = connection.ping_pong();
        let (in_use, unused) = oneshot::channel();
        tokio::spawn(drive(connection, pings, health.clone(), unused));
        Ok(Self {
            sender,
            health,
            in_use: Arc::new(in_use),
        })
    }

    /// Whether it accepts no more requests: it ended, or the receiver announced its end (GOAWAY).
    pub(super) fn is_closed(&mut self) -> bool {
        let ready = self
            .sender
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }

    /// Whether the receiver failed to answer a PING.
    pub(super) fn is_hung(&self) -> bool {
        self.health.hung.load(Ordering::Relaxed)
    }

    /// Returns how many concurrent requests the receiver allows.
    pub(super) fn most(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Starts a request. If this fails, nothing of the request was written.
    pub(super) fn begin(&mut self, request: Request<()>, body: Bytes) -> Result<Stream, h2::Error> {
        let empty = body.is_empty();
        let (response, stream) = self.sender.send_request(request, empty)?;
        self.health.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(Stream {
            response,
            upload: Upload {
                stream,
                left: body,
                over: empty,
            },
            health: self.health.clone(),
            _in_use: self.in_use.clone(),
        })
    }
}

impl Stream {
    /// Sends the request and waits for the head of the response.
    pub(super) async fn answer(&mut self) -> Result<Response<RecvStream>, h2::Error> {
        poll_fn(|context| {
            self.upload.poll(context);
            Pin::new(&mut self.response).poll(context)
        })
        .await
    }

    /// Runs `reading` while sending continues.
    pub(super) async fn sending<T>(&mut self, reading: impl Future<Output = T>) -> T {
        let mut reading = pin!(reading);
        poll_fn(|context| {
            self.upload.poll(context);
            reading.as_mut().poll(context)
        })
        .await
    }

    /// Returns the status, if the rest of the response could not be read.
    pub(super) fn status(&self) -> Option<u16> {
        let id = self.response.stream_id().as_u32();
        self.health.statuses().of(id)
    }

    /// Whether the request was sent to its end, or the receiver accepts no more of it.
    pub(super) fn is_over(&self) -> bool {
        self.upload.over
    }

    /// Sends until then, and skips the response body.
    pub(super) async fn send_rest(&mut self, answer: &mut RecvStream) {
        let mut ended = false;
        poll_fn(|context| {
            self.upload.poll(context);
            while !ended {
                match answer.poll_data(context) {
                    Poll::Ready(Some(Ok(data))) => release(answer, data.len()),
                    Poll::Ready(_) => ended = true,
                    Poll::Pending => break,
                }
            }
            if self.upload.over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Allows the receiver to send this much more.
pub(super) fn release(answer: &mut RecvStream, bytes: usize) {
    // Fails only for more than was received.
    let _ = answer.flow_control().release_capacity(bytes);
}

impl Upload {
    fn poll(&mut self, context: &mut Context<'_>) {
        while !self.over {
            self.stream.reserve_capacity(self.left.len());
            let mut room = self.stream.capacity();
            if room == 0 {
                room = match self.stream.poll_capacity(context) {
                    Poll::Pending => return,
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Ready(_) => {
                        self.over = true;
                        return;
                    }
                };
            }
            let part = self.left.split_to(room.min(self.left.len()));
            let last = self.left.is_empty();
            self.over = self.stream.send_data(part, last).is_err() || last;
        }
    }
}

/// A connection that is read to its end even if writing fails: responses that arrived before a reset count.
struct ReadOut<S> {
    io: S,
    broken: bool,
    health: Arc<Health>,
}

impl<S> ReadOut<S> {
    /// Returns the result of writing. If the receiver has closed the connection, it pretends that `bytes` were written.
    fn written<T>(&mut self, bytes: T, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) if is_end(&error) => {
                self.broken = true;
                Poll::Ready(Ok(bytes))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadOut<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            self.health.statuses().feed(came);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadOut<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written(bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if self.broken {
            return Poll::Ready(Ok(bytes));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.written(bytes, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.written((), flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Reads and writes until the connection ends, the receiver hangs, or nobody has used the connection for a moment.
/// Waiting requests get the error.
async fn drive<S>(
    connection: Connection<S, Bytes>,
    pings: Option<PingPong>,
    health: Arc<Health>,
    unused: oneshot::Receiver<Infallible>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let abandoned = async {
        let _dropped = unused.await;
        sleep(GOODBYE).await;
    };
    let watch = async {
        match pings {
            Some(pings) => watch(pings, &health).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = connection => {}
        () = watch => health.hung.store(true, Ordering::Relaxed),
        () = abandoned => {}
    }
}

/// Resolves when the receiver owes a response and doesn't answer a PING.
async fn watch(mut pings: PingPong, health: &Health) {
    loop {
        sleep(PING_EVERY).await;
        if health.waiting.load(Ordering::Relaxed) == 0 {
            continue;
        }
        match timeout(PONG_WITHIN, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is over, which its own future reports.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

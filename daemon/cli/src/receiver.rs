//! An HTTP/1.1 receiver on loopback for `listen` and `demo`: reads bounded requests, asks its caller for the response,
//! and sends it, including misbehaviour. It doesn't handle signatures.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use crate::respond::Respond;
use crate::signature::Header;

/// Far above `limits.event_bytes`.
const BODY_BYTES: usize = 16 * 1024 * 1024;
/// How many requests are read or answered in parallel.
const CONNECTIONS: usize = 1024;
/// The pause between two bytes of a dripping response.
const DRIP_EVERY: Duration = if cfg!(test) {
    Duration::from_millis(20)
} else {
    Duration::from_secs(1)
};
/// The pause after a failed accept, for example without descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A complete request.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its method.
    pub(crate) method: Method,
    /// Its path and query.
    pub(crate) path: String,
    /// Its headers, in the order they came.
    pub(crate) headers: Vec<Header>,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Received {
    /// Returns the first value of a header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

/// Receives until it is dropped. `answer` gets every complete request and returns the response.
pub(crate) async fn receive<A>(listener: TcpListener, answer: A)
where
    A: Fn(Received) -> Respond + Clone + Send + Sync + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let _permit = permit;
            serve_one(stream, answer).await;
        });
    }
}

async fn serve_one<A>(stream: TcpStream, answer: A)
where
    A: Fn(Received) -> Respond + Clone + Send + Sync + 'static,
{
    let manner = Arc::new(AtomicU8::new(AS_IT_IS));
    let wire = Wire {
        stream,
        manner: Arc::clone(&manner),
        pause: Box::pin(tokio::time::sleep(Duration::ZERO)),
        dripped: 0,
    };
    let service = service_fn(move |request| {
        let (answer, manner) = (answer.clone(), Arc::clone(&manner));
        async move { Ok::<_, Infallible>(exchange(request, &answer, &manner).await) }
    });
    // Only the sender can see these errors; there is nobody to report them to on this side.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(wire), service)
        .await;
}

async fn exchange<A>(
    request: Request<Incoming>,
    answer: &A,
    manner: &AtomicU8,
) -> Response<Full<Bytes>>
where
    A: Fn(Received) -> Respond,
{
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
        return reply(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large or was truncated",
        );
    };
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    let received = Received {
        method: parts.method,
        path: parts.uri.to_string(),
        headers,
        body: body.to_bytes(),
    };
    match answer(received) {
        Respond::Status(status) => status_reply(status),
        Respond::Redirect => with_header(
            reply(StatusCode::FOUND, "elsewhere"),
            header::LOCATION,
            "/elsewhere",
        ),
        Respond::RetryAfter(seconds) => with_header(
            reply(StatusCode::SERVICE_UNAVAILABLE, "later"),
            header::RETRY_AFTER,
            &seconds.to_string(),
        ),
        Respond::Slow(time) => {
            tokio::time::sleep(time).await;
            status_reply(200)
        }
        Respond::Hang => std::future::pending().await,
        Respond::Reset => {
            manner.store(RESET, Ordering::Relaxed);
            status_reply(200)
        }
        Respond::Drip => {
            manner.store(DRIP, Ordering::Relaxed);
            status_reply(200)
        }
        Respond::Garbage => {
            manner.store(GARBAGE, Ordering::Relaxed);
            status_reply(200)
        }
    }
}

fn status_reply(status: u16) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let text = if status == StatusCode::NO_CONTENT {
        ""
    } else {
        status.canonical_reason().unwrap_or("answered as told")
    };
    reply(status, text)
}

fn reply(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

fn with_header(
    mut response: Response<Full<Bytes>>,
    name: header::HeaderName,
    value: &str,
) -> Response<Full<Bytes>> {
    if let Ok(value) = header::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

const AS_IT_IS: u8 = 0;
const RESET: u8 = 1;
const DRIP: u8 = 2;
const GARBAGE: u8 = 3;
/// What is written instead of a response: no status line, and no end.
const NONSENSE: &[u8] = b"\x00\xffthis is no HTTP\r\n";

/// A connection that can misbehave while the response is written.
struct Wire {
    stream: TcpStream,
    manner: Arc<AtomicU8>,
    pause: Pin<Box<Sleep>>,
    dripped: u64,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.manner.load(Ordering::Relaxed) {
            RESET => {
                // Closing with a linger time of zero sends RST (socket(7)).
                let _ = self.stream.set_zero_linger();
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            DRIP => {
                let this = &mut *self;
                if this.dripped > 0 {
                    ready!(this.pause.as_mut().poll(context));
                }
                let one = bytes.get(..1).unwrap_or_default();
                let written = ready!(Pin::new(&mut this.stream).poll_write(context, one))?;
                this.dripped += 1;
                this.pause.set(tokio::time::sleep(DRIP_EVERY));
                Poll::Ready(Ok(written))
            }
            GARBAGE => {
                let length = bytes.len().min(NONSENSE.len());
                let nonsense = NONSENSE.get(..length).unwrap_or_default();
                Pin::new(&mut self.stream).poll_write(context, nonsense)
            }
            _ => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.manner.load(Ordering::Relaxed) == RESET {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Sends one request to a receiver that responds like this, and reads its whole response.
    async fn ask(respond: Respond) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = tokio::spawn(receive(listener, move |received: Received| {
            assert_eq!(
                (received.path.as_str(), &*received.body),
                ("/hook", &b"hello"[..])
            );
            assert_eq!(received.header("X-A"), Some("b"));
            respond
        }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"POST /hook HTTP/1.1\r\nhost: x\r\nx-a: b\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        receiver.abort();
        read.map(|_| answer)
    }

    #[tokio::test]
    async fn a_status_a_redirect_and_a_later_are_answered() {
        assert!(
            ask(Respond::Status(503))
                .await
                .unwrap()
                .starts_with(b"HTTP/1.1 503 ")
        );
        let text = String::from_utf8(ask(Respond::Redirect).await.unwrap()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 302 ") && text.contains("location: /elsewhere"),
            "{text}"
        );
        let text = String::from_utf8(ask(Respond::RetryAfter(30)).await.unwrap()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 30"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_reset_is_a_reset() {
        assert_eq!(
            ask(Respond::Reset).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }

    #[tokio::test]
    async fn garbage_is_no_http() {
        let answer = ask(Respond::Garbage).await.unwrap();
        assert!(
            !answer.is_empty() && !answer.starts_with(b"HTTP"),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn a_drip_comes_byte_by_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = tokio::spawn(receive(listener, |_| Respond::Drip));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = [0_u8; 1024];
        let mut reads = Vec::new();
        while reads.len() < 9 {
            let read = stream.read(&mut buffer).await.unwrap();
            reads.extend_from_slice(&buffer[..read]);
            assert_eq!(read, 1, "{:?}", String::from_utf8_lossy(&reads));
        }
        assert_eq!(reads, b"HTTP/1.1 ");
        receiver.abort();
    }
}

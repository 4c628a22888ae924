//! An HTTP/1.1 connection that is driven by whoever uses it. A task of its own would be woken for every request and wake the
//! attempt for every answer; here both are steps of the attempt. While it is idle nobody looks at it: that its partner closed it
//! is found out when it is to be used again.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// How long a connection that is given up may take to say so to its partner.
const GOODBYE: Duration = Duration::from_secs(1);

/// What travels.
pub(super) type Body = Full<Bytes>;

/// See the module.
pub(super) struct Line {
    sender: http1::SendRequest<Body>,
    driver: Driver,
}

/// The connection's own part: it reads and writes when it is polled. `None` once it is over.
struct Driver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Driver {
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(context).is_ready()
        {
            self.0 = None;
        }
    }

    /// Does `work`, which waits for what the connection does.
    async fn with<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            // What is to be sent is handed over first, and what came is taken at once.
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            self.drive(context);
            work.as_mut().poll(context)
        })
        .await
    }
}

impl Line {
    pub(super) fn new<S>(
        sender: http1::SendRequest<Body>,
        connection: http1::Connection<TokioIo<S>, Body>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Its errors reach whoever waits for an answer.
        let driver = Box::pin(async move { drop(connection.await) });
        Self {
            sender,
            driver: Driver(Some(driver)),
        }
    }

    /// Whether a request may be sent, as far as it can be known.
    pub(super) async fn is_ready(&mut self, patience: Duration) -> bool {
        let ready = timeout(patience, self.driver.with(self.sender.ready()));
        matches!(ready.await, Ok(Ok(())))
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        let answer = self.sender.try_send_request(request);
        self.driver.with(answer).await
    }

    /// Reads of an answer.
    pub(super) async fn read<T>(&mut self, reading: impl Future<Output = T>) -> T {
        self.driver.with(reading).await
    }

    pub(super) fn is_closed(&self) -> bool {
        self.driver.0.is_none() || self.sender.is_closed()
    }

    /// Closes an idle connection, and says so where TLS wants it said.
    pub(super) fn hang_up(self) {
        drop(self.sender);
        if let Some(connection) = self.driver.0 {
            tokio::spawn(timeout(GOODBYE, connection));
        }
    }
}

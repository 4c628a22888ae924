//! Serves one HTTP/2 connection of a caller: its bounds, and when it has to end although it is still open.
//!
//! HTTP/1.1 has one request at a time, whose silence is easily timed. Here a connection ends when it has had no request
//! for as long as a caller may stay silent, when a response isn't read for as long, and when the caller cancels most of
//! what it asks (CVE-2023-44487). Floods of frames that cost nothing to send are ended by the library: resets before a
//! request is taken, CONTINUATION, empty DATA; SETTINGS and PING are answered one at a time.

use super::front::Front;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use stormhook_engine::clock::Moment;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

/// Requests in progress on one connection (RFC 9113, section 6.5.2, recommends at least 100).
const REQUESTS: u32 = 100;
/// How much of bodies is taken before a handler reads it: of one request, and of all on a connection.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// How much of a response is held for a caller that doesn't read it, before more of it is made.
const SEND_AHEAD_BYTES: usize = 64 << 10;
/// How long a header block may be when unpacked. Above the bound of a request, so that a request above it gets a full
/// response.
const READ_AHEAD_BYTES: u32 = 64 << 10;
/// The caller's table for compressed headers, which it may fill (RFC 7541, section 4.2). The library's default.
const HEADER_TABLE_BYTES: u32 = 4 << 10;
/// How many more requests a caller may cancel than it lets finish.
const CANCELLED_MORE: u64 = 200;

/// Serves the connection until it ends, has to end, or connections should finish and its requests are answered.
pub(super) async fn serve<S>(stream: S, front: Front, idle: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let closing = front.closing();
    let watch = Arc::new(Watch::default());
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_AHEAD_BYTES)
        .max_header_list_size(READ_AHEAD_BYTES)
        .header_table_size(HEADER_TABLE_BYTES)
        .serve_connection(
            TokioIo::new(stream),
            Watched {
                front,
                watch: Arc::clone(&watch),
            },
        );
    tokio::pin!(connection);
    let quiet = tokio::select! {
        _over = connection.as_mut() => return,
        quiet = watch.until_it_must_end(idle) => quiet,
        () = closing => true,
    };
    if quiet {
        connection.as_mut().graceful_shutdown();
        // What the caller doesn't read within this time, it doesn't get.
        let _over = tokio::time::timeout(idle, connection).await;
    }
}

/// What is known of the requests on one connection.
#[derive(Debug)]
struct State {
    /// Those in progress. If a part of the response waits for the caller to read it: since when.
    open: HashMap<u64, Option<Duration>>,
    next: u64,
    /// Since when there is none.
    quiet_since: Duration,
    finished: u64,
    cancelled: u64,
}

/// What to do about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Look again after this time.
    Fine(Duration),
    /// Let it finish: nothing is asked.
    Quiet,
    /// End it: its responses aren't read, or most of its requests are cancelled.
    Abused,
}

impl State {
    /// Judges the connection. Pure.
    fn judge(&self, now: Duration, idle: Duration) -> Verdict {
        let left = |since: Duration| idle.checked_sub(now.saturating_sub(since));
        if self.cancelled > self.finished.saturating_add(CANCELLED_MORE) {
            return Verdict::Abused;
        }
        if self.open.is_empty() {
            return match left(self.quiet_since) {
                Some(rest) if !rest.is_zero() => Verdict::Fine(rest),
                _ => Verdict::Quiet,
            };
        }
        match self.open.values().flatten().min() {
            Some(since) => match left(*since) {
                Some(rest) if !rest.is_zero() => Verdict::Fine(rest),
                _ => Verdict::Abused,
            },
            None => Verdict::Fine(idle),
        }
    }
}

/// The state of a connection, shared by its requests. Times are those since the connection began.
#[derive(Debug)]
struct Watch {
    began: Moment,
    state: Mutex<State>,
    abused: Notify,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            began: Moment::now(),
            state: Mutex::new(State {
                open: HashMap::new(),
                next: 0,
                quiet_since: Duration::ZERO,
                finished: 0,
                cancelled: 0,
            }),
            abused: Notify::new(),
        }
    }
}

impl Watch {
    /// A panic leaves it usable: it is only counted and timed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the connection is only quiet, and false if it must end at once.
    async fn until_it_must_end(&self, idle: Duration) -> bool {
        loop {
            let verdict = self.state().judge(self.began.elapsed(), idle);
            match verdict {
                Verdict::Quiet => return true,
                Verdict::Abused => {
                    tracing::warn!(
                        "ended an HTTP/2 connection whose caller cancelled its requests or didn't read its responses"
                    );
                    return false;
                }
                Verdict::Fine(rest) => tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    () = self.abused.notified() => {}
                },
            }
        }
    }

    fn begin(self: &Arc<Self>) -> Request {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, None);
        drop(state);
        Request {
            watch: Arc::clone(self),
            number,
            is_answered: false,
        }
    }
}

/// A request in progress. Dropped before it is answered, it was cancelled.
#[derive(Debug)]
struct Request {
    watch: Arc<Watch>,
    number: u64,
    is_answered: bool,
}

impl Request {
    /// Notes whether a part of the response waits to be read.
    fn waits(&self, is_waiting: bool) {
        let since = is_waiting.then(|| self.watch.began.elapsed());
        if let Some(known) = self.watch.state().open.get_mut(&self.number) {
            *known = since;
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.watch.state();
        state.open.remove(&self.number);
        if state.open.is_empty() {
            state.quiet_since = self.watch.began.elapsed();
        }
        if self.is_answered {
            state.finished += 1;
            return;
        }
        state.cancelled += 1;
        if state.cancelled > state.finished.saturating_add(CANCELLED_MORE) {
            self.watch.abused.notify_one();
        }
    }
}

/// [`Front`], with its requests counted.
struct Watched {
    front: Front,
    watch: Arc<Watch>,
}

impl Service<http::Request<Incoming>> for Watched {
    type Response = http::Response<Answered>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let mut counted = self.watch.begin();
        let answering = self.front.call(request);
        Box::pin(async move {
            let response: Response = match answering.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            Ok(response.map(|body| {
                counted.is_answered = body.is_end_stream();
                Answered {
                    body,
                    request: counted,
                }
            }))
        })
    }
}

/// The body of a response, which knows whether its last part has been taken.
struct Answered {
    body: Body,
    request: Request,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // It is asked for more when the caller has read what came before.
        self.request.waits(false);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.request.is_answered = frame.is_none() || self.body.is_end_stream();
        self.request.waits(frame.is_some());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn state(open: &[Option<u64>]) -> State {
        let open = open.iter().enumerate();
        State {
            open: open
                .map(|(n, since)| (n as u64, since.map(Duration::from_secs)))
                .collect(),
            next: 0,
            quiet_since: at(100),
            finished: 0,
            cancelled: 0,
        }
    }

    #[test]
    fn a_connection_without_requests_is_quiet_after_its_time() {
        let none = state(&[]);
        assert_eq!(none.judge(at(100), IDLE), Verdict::Fine(IDLE));
        assert_eq!(none.judge(at(159), IDLE), Verdict::Fine(at(1)));
        assert_eq!(none.judge(at(160), IDLE), Verdict::Quiet);
    }

    #[test]
    fn a_response_that_is_not_read_ends_it_and_one_that_is_being_made_does_not() {
        let working = state(&[None, None]);
        assert_eq!(working.judge(at(10_000), IDLE), Verdict::Fine(IDLE));
        let unread = state(&[None, Some(130), Some(120)]);
        assert_eq!(unread.judge(at(179), IDLE), Verdict::Fine(at(1)));
        assert_eq!(unread.judge(at(180), IDLE), Verdict::Abused);
    }

    #[test]
    fn cancelling_more_than_finishes_ends_it() {
        let mut counted = state(&[]);
        (counted.finished, counted.cancelled) = (50, 50 + CANCELLED_MORE);
        assert_eq!(counted.judge(at(100), IDLE), Verdict::Fine(IDLE));
        counted.cancelled += 1;
        assert_eq!(counted.judge(at(100), IDLE), Verdict::Abused);
    }

    #[test]
    fn requests_are_counted_as_they_end() {
        let watch = Arc::new(Watch::default());
        let mut answered = watch.begin();
        let cancelled = watch.begin();
        answered.waits(true);
        assert_eq!(watch.state().open.values().flatten().count(), 1);
        answered.is_answered = true;
        drop((answered, cancelled));
        let state = watch.state();
        assert!(state.open.is_empty());
        assert_eq!((state.finished, state.cancelled), (1, 1));
    }
}

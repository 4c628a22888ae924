//! Sends one request over one connection and reads as much of the response as is needed: the status, `Retry-After`, and
//! for a failure the start of the body. The status alone decides the attempt; the rest of a body is read, for a limited
//! time, only to reuse the connection. The caller decides, from the result, whether to send the request again over
//! another connection.

use super::destination::Target;
use super::framing::Framing;
use super::head::{Head, Reader};
use super::http1::{Excerpt, Heard, Http1, Read, is_end};
use super::pool::{Connection, Home, Kind, Share};
use super::secured::told;
use super::streams::{Stream, Streams, release};
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::header::{HeaderMap, RETRY_AFTER};
use http::{Method, Request, Response, Version};
use std::io::Write;
use std::time::Duration;
use stormhook_engine::clock;
use stormhook_engine::outcome::{Failure, Reply};
use tokio::time::{Instant, timeout_at};

/// How long to wait for the rest of a success's body: longer would cost more than a new connection.
const SUCCESS_BODY: Duration = Duration::from_millis(500);
/// The same for a failure's body, the start of which is shown to people.
const FAILURE_BODY: Duration = Duration::from_secs(2);

/// A request and its limits.
pub(super) struct Order<'a> {
    pub(super) target: &'a Target,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    pub(super) still_wanted: &'a (dyn Fn() -> bool + Send + Sync),
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    pub(super) response_bytes: usize,
    pub(super) excerpt_bytes: usize,
}

/// The result of sending.
pub(super) enum Outcome {
    /// A final reply.
    Reply(Reply),
    /// The connection turned out to be closed before anything was written.
    Unwritten,
    /// The request was no longer wanted; nothing was written.
    NotWanted,
    /// This reply, but the request may be sent again.
    Again(Again, Reply),
}

/// Why a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// A reused connection ended before the first byte of a response: servers close idle connections like this.
    Ended,
    /// The receiver said that it had not processed the request (RFC 9113, section 8.7).
    Unprocessed,
    /// The same, because it has too many requests.
    Refused,
    /// The receiver asked for HTTP/1.1.
    Http1,
}

impl Order<'_> {
    fn failed(&self, failure: Failure, why: impl std::fmt::Display) -> Reply {
        Reply::Failed(failure, format!("{}: {why}", self.target.origin()))
    }

    pub(super) fn timed_out(&self) -> Reply {
        let why = format!(
            "{} did not answer within {:?}",
            self.target.origin(),
            self.timeout
        );
        Reply::Failed(Failure::Timeout, why)
    }

    /// A success that arrives before the request has been read counts only if the whole request is read.
    fn not_taken(&self, code: u16) -> Reply {
        let why = format!(
            "it answered {code} but did not read the whole request within {:?}",
            self.timeout
        );
        self.failed(Failure::Timeout, why)
    }

    fn ended(&self, error: &std::io::Error) -> Reply {
        // With TLS 1.3 a server rejects a client only after the handshake.
        if let Some(words) = told(error) {
            return self.failed(Failure::Tls, words);
        }
        let why = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                "it closed the connection before answering".to_owned()
            }
            _ => format!("the connection failed before it answered: {error}"),
        };
        self.failed(Failure::Protocol, why)
    }

    fn excerpt(&self, success: bool) -> Excerpt {
        let wanted = if success { 0 } else { self.excerpt_bytes };
        Excerpt::new(wanted, self.response_bytes)
    }

    /// Returns the deadline for reading a body.
    fn until(&self, success: bool) -> Instant {
        let patience = if success { SUCCESS_BODY } else { FAILURE_BODY };
        self.deadline.min(clock::deadline(patience))
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.target.request_line().as_bytes());
        let mut line = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        for (name, value) in self.headers {
            line(name.as_str(), value.as_bytes());
        }
        line("host", self.target.host().as_bytes());
        // Writing to memory can't fail.
        let _ = write!(out, "content-length: {}\r\n\r\n", self.body.len());
    }

    fn http2_request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.target.absolute();
        *request.headers_mut() = self.headers.clone();
        let length = http::HeaderValue::from(self.body.len());
        request
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, length);
        request
    }
}

fn is_success(code: u16) -> bool {
    (200..300).contains(&code)
}

/// Sends a request over this connection.
pub(super) async fn send(connection: Connection, order: &Order<'_>) -> Outcome {
    let reused = connection.reused;
    match connection.kind {
        Kind::Http1 { line, home } => over_line(line, home, reused, order).await,
        // Boxed: it is larger than the HTTP/1.1 future, which most attempts use.
        Kind::Http2 { streams, share } => {
            Box::pin(over_stream(streams, share, reused, order)).await
        }
    }
}

async fn over_line(mut line: Http1, home: Home, reused: bool, order: &Order<'_>) -> Outcome {
    if reused && !line.is_quiet() {
        return Outcome::Unwritten;
    }
    if !(order.still_wanted)() {
        home.take_back(line, None);
        return Outcome::NotWanted;
    }
    line.put(|out| order.write_head(out), order.body.clone());
    let mut reader = Reader::default();
    let heard = timeout_at(order.deadline, line.answer(&mut reader)).await;
    let whole = matches!(heard, Ok(Heard::Head));
    if reader.code().is_none() {
        return match heard {
            Ok(Heard::Ended(error)) => {
                let reply = order.ended(&error);
                if !reused || reader.began() || !is_end(&error) {
                    return Outcome::Reply(reply);
                }
                home.ended_silently();
                Outcome::Again(Again::Ended, reply)
            }
            Ok(Heard::NotHttp(why)) => Outcome::Reply(order.failed(Failure::Protocol, why)),
            Ok(Heard::Head | Heard::Cut) | Err(_) => Outcome::Reply(order.timed_out()),
        };
    }
    let Some(head) = reader.finish(whole) else {
        return Outcome::Reply(order.timed_out());
    };
    Outcome::Reply(finish_line(line, home, head, whole, order).await)
}

/// Reads the needed part of the response, sends the rest of the request if the response is a success, and keeps the
/// connection if it can be reused.
async fn finish_line(
    mut line: Http1,
    home: Home,
    head: Head,
    whole: bool,
    order: &Order<'_>,
) -> Reply {
    let success = is_success(head.code);
    let mut excerpt = order.excerpt(success);
    let mut framing = Framing::new(head.length);
    let read = if !whole {
        Read::Enough
    } else if framing.is_over() {
        Read::ToItsEnd
    } else {
        let reading = line.body(&mut framing, &mut excerpt);
        let read = timeout_at(order.until(success), reading).await;
        read.unwrap_or(Read::Enough)
    };
    if success && !line.is_sent() {
        let sent = timeout_at(order.deadline, line.send_rest()).await;
        if sent.is_err() {
            return order.not_taken(head.code);
        }
    }
    if read == Read::ToItsEnd && head.persistent && line.is_clean() {
        home.take_back(line, head.kept);
    } else if success {
        home.part(line);
    }
    Reply::Status {
        code: head.code,
        retry_after: head.retry_after,
        excerpt: excerpt.bytes,
    }
}

async fn over_stream(
    mut streams: Streams,
    share: Share,
    reused: bool,
    order: &Order<'_>,
) -> Outcome {
    if streams.is_closed() {
        return Outcome::Unwritten;
    }
    if !(order.still_wanted)() {
        share.finish();
        return Outcome::NotWanted;
    }
    let Ok(mut stream) = streams.begin(order.http2_request(), order.body.clone()) else {
        return Outcome::Unwritten;
    };
    match timeout_at(order.deadline, stream.answer()).await {
        Ok(Ok(response)) => Outcome::Reply(finish_stream(stream, share, response, order).await),
        Ok(Err(error)) => match stream.status() {
            Some(code) => Outcome::Reply(malformed_answer(code, &stream, order)),
            None => no_answer(&streams, share, reused, &error, order),
        },
        Err(_) => Outcome::Reply(order.timed_out()),
    }
}

/// Returns the reply for a response of which only the status is readable. The rest of the request can't be sent, and
/// the connection can't be reused.
fn malformed_answer(code: u16, stream: &Stream, order: &Order<'_>) -> Reply {
    if is_success(code) && !stream.is_over() {
        let why = format!(
            "it answered {code} with malformed headers before it had read the whole request"
        );
        return order.failed(Failure::Protocol, why);
    }
    Reply::Status {
        code,
        retry_after: None,
        excerpt: Vec::new(),
    }
}

/// Returns the outcome of a stream that ended without a response.
fn no_answer(
    streams: &Streams,
    share: Share,
    reused: bool,
    error: &h2::Error,
    order: &Order<'_>,
) -> Outcome {
    if streams.is_hung() {
        let why = "it stopped answering, even to PING";
        return Outcome::Reply(order.failed(Failure::Timeout, why));
    }
    if let Some(words) = told(error) {
        return Outcome::Reply(order.failed(Failure::Tls, words));
    }
    if let Some(error) = error.get_io() {
        let reply = order.ended(error);
        return if reused && is_end(error) {
            Outcome::Again(Again::Ended, reply)
        } else {
            Outcome::Reply(reply)
        };
    }
    let reply = order.failed(
        Failure::Protocol,
        format_args!("it did not answer: {error}"),
    );
    if !error.is_remote() {
        return Outcome::Reply(reply);
    }
    match error.reason() {
        Some(Reason::HTTP_1_1_REQUIRED) => {
            share.wants_http1();
            Outcome::Again(Again::Http1, reply)
        }
        // GOAWAY becomes this error only for streams above the last id that it names (RFC 9113, section 6.8).
        _ if error.is_go_away() => Outcome::Again(Again::Unprocessed, reply),
        Some(Reason::REFUSED_STREAM) => {
            share.finish();
            Outcome::Again(Again::Refused, reply)
        }
        _ => {
            share.finish();
            Outcome::Reply(reply)
        }
    }
}

/// The same as [`finish_line`] for a stream.
async fn finish_stream(
    mut stream: Stream,
    share: Share,
    response: Response<RecvStream>,
    order: &Order<'_>,
) -> Reply {
    let (head, mut answer) = response.into_parts();
    let code = head.status.as_u16();
    let success = is_success(code);
    let mut excerpt = order.excerpt(success);
    if !answer.is_end_stream() {
        let reading = stream.sending(read_body(&mut answer, &mut excerpt));
        let _ = timeout_at(order.until(success), reading).await;
    }
    if success && !stream.is_over() {
        let sending = stream.send_rest(&mut answer);
        if timeout_at(order.deadline, sending).await.is_err() {
            return order.not_taken(code);
        }
    }
    share.finish();
    Reply::Status {
        code,
        retry_after: head
            .headers
            .get(RETRY_AFTER)
            .map(|value| value.as_bytes().to_vec()),
        excerpt: excerpt.bytes,
    }
}

async fn read_body(answer: &mut RecvStream, excerpt: &mut Excerpt) {
    while let Some(Ok(data)) = answer.data().await {
        release(answer, data.len());
        if !excerpt.take(&data) {
            return;
        }
    }
}

//! One request over one connection, and as much of its answer as is wanted: status, `Retry-After`, and of a failure the
//! beginning of the body. The status decides; a body is read on for a while only to use the connection again.

use super::destination::Target;
use super::line::{Body, Line};
use super::pool::{Connection, Home, Share};
use super::{MAX_RESPONSE_HEADER_BYTES, Unanswered, secured};
use crate::clock;
use crate::outcome::{Failure, Reply};
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use std::error::Error;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the rest of a success's body is waited for: longer costs more than a new connection.
const SUCCESS_BODY: Duration = Duration::from_millis(500);
/// The same for a failure's, whose beginning is shown to people.
const FAILURE_BODY: Duration = Duration::from_secs(2);
/// How long a connection may take to be ready again after its answer was read.
const READY: Duration = Duration::from_millis(100);
/// By how much earlier a connection is dropped than the partner says it will: both would else meet in the middle.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(250);

const TOO_LARGE: &str =
    "the answer's headers are too large; at most 64 KiB and 512 headers are taken";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A request that is not bound to a connection yet.
pub(super) struct Draft {
    headers: HeaderMap,
    body: Bytes,
}

impl Draft {
    pub(super) fn new(headers: HeaderMap, body: Bytes) -> Self {
        Self { headers, body }
    }

    fn http1(mut self, target: &Target) -> Unsent {
        self.headers.insert(HOST, target.host());
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.path();
        *request.headers_mut() = self.headers;
        Unsent {
            request,
            body: self.body,
        }
    }

    fn http2(self, target: &Target) -> Unsent {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.absolute();
        *request.headers_mut() = self.headers;
        Unsent {
            request,
            body: self.body,
        }
    }
}

struct Unsent {
    request: Request<Body>,
    body: Bytes,
}

impl Unsent {
    /// Back to what it was made of.
    fn draft(request: Request<Body>, body: Bytes) -> Draft {
        let mut headers = request.into_parts().0.headers;
        headers.remove(HOST);
        Draft { headers, body }
    }
}

/// What becomes of the connection when the answer is read.
enum After {
    Http1(Line, Home),
    Http2(Share),
}

impl After {
    /// Reads of the answer while the connection goes on.
    async fn driving<T>(&mut self, reading: impl Future<Output = T>) -> T {
        match self {
            Self::Http1(line, _) => line.read(reading).await,
            Self::Http2(_) => reading.await,
        }
    }
}

/// A request whose status line came.
pub(super) struct Sent {
    response: Response<Incoming>,
    after: After,
}

/// Sends a request. The draft comes back if the connection turned out closed before anything was written.
pub(super) async fn send(
    connection: Connection,
    target: &Target,
    draft: Draft,
    still_wanted: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Result<Sent, Draft>, Unanswered> {
    let (result, body, after) = match connection {
        Connection::Http1 { mut line, home } => {
            if !line.is_ready(READY).await {
                return Ok(Err(draft));
            }
            if !still_wanted() {
                home.take_back(line, None);
                return Err(Unanswered::NotWanted);
            }
            let Unsent { request, body } = draft.http1(target);
            let result = line.send(request).await;
            (result, body, After::Http1(line, home))
        }
        Connection::Http2 { mut sender, share } => {
            if sender.ready().await.is_err() {
                return Ok(Err(draft));
            }
            if !still_wanted() {
                share.finish();
                return Err(Unanswered::NotWanted);
            }
            let Unsent { request, body } = draft.http2(target);
            let result = sender.try_send_request(request).await;
            (result, body, After::Http2(share))
        }
    };
    match result {
        Ok(response) => Ok(Ok(Sent { response, after })),
        Err(error) => unsent(error, body).map(Err).map_err(|error| {
            // Over TLS 1.3 a server refuses a client after the handshake is over.
            let (failure, what) = match secured::told(&error) {
                Some(words) => (Failure::Tls, words),
                None => (Failure::Protocol, describe(&error)),
            };
            Unanswered::Failed((failure, format!("{}: {what}", target.origin())))
        }),
    }
}

/// Whether the headers of an answer are more than is taken. The bound on what is read ahead is a larger one: where it falls
/// depends on how the bytes arrive.
fn are_too_large(headers: &HeaderMap) -> bool {
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    headers.iter().map(line).sum::<usize>() > MAX_RESPONSE_HEADER_BYTES
}

fn unsent(mut error: TrySendError<Request<Body>>, body: Bytes) -> Result<Draft, hyper::Error> {
    match error.take_message() {
        Some(request) => Ok(Unsent::draft(request, body)),
        None => Err(error.into_error()),
    }
}

/// What went wrong, for people.
fn describe(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return TOO_LARGE.to_owned();
    }
    if error.is_parse() {
        return format!("what came back is not HTTP: {error}");
    }
    if error.is_incomplete_message() {
        return "the connection was closed before an answer came".to_owned();
    }
    match error.source() {
        Some(source) => format!("no answer came: {error}: {source}"),
        None => format!("no answer came: {error}"),
    }
}

/// How far a body was read.
#[derive(PartialEq)]
enum Read {
    ToItsEnd,
    Enough,
}

impl Sent {
    /// Reads what is wanted of the answer and keeps the connection, if it can be used again.
    pub(super) async fn read(
        self,
        deadline: Instant,
        response_bytes: usize,
        excerpt_bytes: usize,
    ) -> Reply {
        let Self {
            response,
            mut after,
        } = self;
        let (head, mut body) = response.into_parts();
        if are_too_large(&head.headers) {
            return Reply::Failed(Failure::Protocol, TOO_LARGE.to_owned());
        }
        let success = head.status.is_success();
        let excerpt_bytes = if success { 0 } else { excerpt_bytes };
        let mut excerpt = Vec::new();
        let read = if body.is_end_stream() {
            Read::ToItsEnd
        } else {
            let patience = if success { SUCCESS_BODY } else { FAILURE_BODY };
            let until = deadline.min(clock::deadline(patience));
            let reading = read_body(&mut body, &mut excerpt, response_bytes, excerpt_bytes);
            timeout_at(until, after.driving(reading))
                .await
                .unwrap_or(Read::Enough)
        };
        drop(body);
        match after {
            After::Http1(line, home) if read == Read::ToItsEnd => {
                home.take_back(line, kept_by_partner(&head.headers));
            }
            // Its rest is still to come: dropped, it is closed.
            After::Http1(..) => {}
            After::Http2(share) => share.finish(),
        }
        Reply::Status {
            code: head.status.as_u16(),
            retry_after: head
                .headers
                .get(RETRY_AFTER)
                .map(|value| value.as_bytes().to_vec()),
            excerpt,
        }
    }
}

async fn read_body(
    body: &mut Incoming,
    excerpt: &mut Vec<u8>,
    response_bytes: usize,
    excerpt_bytes: usize,
) -> Read {
    let mut left = response_bytes;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Read::Enough;
        };
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let wanted = excerpt_bytes.saturating_sub(excerpt.len()).min(data.len());
        excerpt.extend_from_slice(data.get(..wanted).unwrap_or_default());
        if data.len() > left {
            return Read::Enough;
        }
        left -= data.len();
    }
    Read::ToItsEnd
}

/// How long the partner keeps the connection, if it says so (RFC 2068, section 19.7.1; `Keep-Alive: timeout=5, max=100`).
fn kept_by_partner(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = text.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("timeout");
        named.then(|| value.trim().trim_matches('"').parse::<u32>().ok())?
    })?;
    let said = Duration::from_secs(u64::from(seconds));
    Some(said.saturating_sub(KEEP_ALIVE_MARGIN))
}

//! The NDJSON stream: one event per line in, one result per line out, in order, as commits happen.
//!
//! Everything is bounded: lines that wait for their commit, the line being read, and results that the client has not
//! read yet. When a bound is reached, reading pauses. A line that is too long is skipped without being kept.

mod room;

use super::access::Caller;
use super::events::IDEMPOTENCY_KEY;
use super::fields::query;
use super::ingest::{self, EventBody};
use super::lines::LineReader;
use super::openapi::responses::BatchAnswer;
#[cfg(feature = "postgres")]
use super::passing::lines::{LineAnswer, Lines, PassedOn};
use super::problem::{Code, Problem, refused};
use super::{Answer, Shared, request};
use crate::config::Limits;
#[cfg(feature = "postgres")]
use crate::peers::PASSED;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::BodyExt;
use room::{Place, Room};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;
use stormhook_engine::clock;
use stormhook_engine::lifecycle::Phase;
use stormhook_engine::writer::{Pending, SubmitError};
#[cfg(feature = "postgres")]
use stormhook_postgres::Holder;
use stormhook_store::{Accepted, NewEvent, Refusal};
use tokio::sync::mpsc;

/// The maximum number of lines that wait for their commit.
const IN_FLIGHT: usize = 2_048;
/// Results are collected up to about this size before they are sent.
const CHUNK_BYTES: usize = 16 << 10;
/// Results that one client has not read yet, in bytes. A client that sends a large batch before it reads needs that
/// much.
const UNTAKEN_BYTES: usize = 8 << 20;

/// How long a client may continue to send after the daemon starts to stop.
const LINGER_STOPPING: Duration = Duration::from_millis(500);

/// One result.
#[derive(Serialize)]
struct LineResult<'a, P = Problem> {
    line: u64,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<P>,
}

/// A line that was read.
enum PendingLine {
    ForCommit(Pending<NewEvent>),
    /// Another daemon answers it.
    #[cfg(feature = "postgres")]
    Passed(PassedOn),
    Rejected(Problem),
}

/// Sends any number of events.
///
/// One event per line, as in `POST /v1/events`, without a limit on their number. The response starts immediately; its
/// lines have the order of the request's lines, one for each line that is not blank, and appear as the events become
/// durable. A rejected line doesn't affect the others. If the daemon stops reading, after a pause longer than
/// `limits.idle` or because it is stopping, the last line has the status `cut` and names the first line that was not
/// read. The result of a line without an answer is unknown: send it again with its key. The schemas are those of one
/// line.
#[utoipa::path(post, path = "/v1/events/batch", tag = "events", operation_id = "sendEventBatch",
    request_body(content = EventBody<'_>, content_type = "application/x-ndjson", description = "JSON objects, one per line, each at most `limits.event_bytes`."),
    responses((status = 200, description = "The result of each line.", body = BatchAnswer, content_type = "application/x-ndjson")))]
pub(super) async fn accept(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let fits = query::<()>(&uri)
        .and_then(|()| request::check_media(&headers, "application/x-ndjson"))
        .and_then(|()| has_no_key(&headers));
    if let Err(problem) = fits {
        request::pass_over(&headers, body, app.config().limits.idle);
        return Err(problem);
    }
    let (answers, taken) = mpsc::channel(UNTAKEN_BYTES / CHUNK_BYTES);
    let limits = app.config().limits.clone();
    tokio::spawn(async move {
        let mut batch = Batch {
            app,
            caller,
            limits,
            lines: LineReader::default(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            room: Room::default(),
            answers,
            #[cfg(feature = "postgres")]
            passed: headers.contains_key(PASSED),
            #[cfg(feature = "postgres")]
            elsewhere: Lines::default(),
        };
        // A client that disconnects gets no more results; accepted lines are stored.
        let _gone = batch.run(body).await;
    });
    let stream = futures_util::stream::unfold(taken, |mut taken| async move {
        let (chunk, place): (Bytes, Place) = taken.recv().await?;
        drop(place);
        Some((Ok::<_, std::convert::Infallible>(chunk), taken))
    });
    let mut response = Response::new(Body::from_stream(stream.boxed()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response.into_response())
}

/// An idempotency key is for one event.
fn has_no_key(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(Problem::field(
            "idempotencyKey",
            "The Idempotency-Key header applies to one event. In a batch, give each line its own idempotencyKey.",
        ));
    }
    Ok(())
}

/// The client has disconnected.
struct Gone;

struct Batch {
    app: Shared,
    caller: Caller,
    limits: Limits,
    lines: LineReader,
    waiting: VecDeque<(u64, PendingLine)>,
    out: Vec<u8>,
    room: Room,
    answers: mpsc::Sender<(Bytes, Place)>,
    /// Whether another daemon passed it on.
    #[cfg(feature = "postgres")]
    passed: bool,
    /// Lines that other daemons answer.
    #[cfg(feature = "postgres")]
    elsewhere: Lines,
}

impl Batch {
    async fn run(&mut self, mut body: Body) -> Result<(), Gone> {
        let cut = self.take_lines(&mut body).await?;
        while !self.waiting.is_empty() {
            oldest(&mut self.waiting).await;
            self.answer_ready().await?;
        }
        let Some(problem) = cut else {
            return self.send().await;
        };
        let linger = match problem.code {
            Code::ShuttingDown => LINGER_STOPPING,
            _ => self.limits.idle,
        };
        self.write::<Problem>(&LineResult {
            line: self.lines.count + 1,
            status: "cut",
            id: None,
            deliveries: None,
            problem: Some(problem),
        });
        self.send().await?;
        // A client that is still sending would lose the response with the connection.
        request::drain(body, linger).await;
        Ok(())
    }

    /// Reads lines until they end, or returns why it reads no more.
    async fn take_lines(&mut self, body: &mut Body) -> Result<Option<Problem>, Gone> {
        let stopping = self.app.engine.life().reached(Phase::Draining);
        let ended = self.caller.ended();
        tokio::pin!(stopping, ended);
        loop {
            self.answer_ready().await?;
            let idle = tokio::time::sleep_until(clock::deadline(self.limits.idle));
            tokio::select! {
                biased;
                () = &mut stopping => return Ok(Some(SubmitError::ShuttingDown.into())),
                () = &mut ended => return Ok(Some(Problem::new(
                    Code::TokenInvalid,
                    "The API key was revoked or has expired. Send the rest with another one.",
                ))),
                () = oldest(&mut self.waiting), if !self.waiting.is_empty() => {}
                frame = body.frame(), if self.waiting.len() < IN_FLIGHT => match frame {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            self.lines.buffer.extend_from_slice(&data);
                            self.read_lines(false).await?;
                        }
                    }
                    // A line that was cut off is not complete.
                    Some(Err(e)) => return Ok(Some(Problem::new(
                        Code::InvalidRequest,
                        format!("The stream was truncated or its chunks are malformed: {e}"),
                    ))),
                    None => {
                        self.read_lines(true).await?;
                        return Ok(None);
                    }
                },
                () = idle, if self.waiting.is_empty() => return Ok(Some(Problem::new(
                    Code::RequestTimeout,
                    "No line arrived within limits.idle, so the stream ends here. Send the rest in a new request.",
                ))),
            }
        }
    }

    /// Submits the lines in the buffer. If too many wait, it sends results in between.
    async fn read_lines(&mut self, last: bool) -> Result<(), Gone> {
        while let Some((line, text)) = self.lines.next(self.limits.event_bytes, last) {
            let waiting = match text {
                Ok(text) => self.hand_over(&text).await,
                Err(problem) => PendingLine::Rejected(problem),
            };
            self.waiting.push_back((line, waiting));
            while self.waiting.len() >= IN_FLIGHT {
                oldest(&mut self.waiting).await;
                self.answer_ready().await?;
            }
        }
        Ok(())
    }

    async fn hand_over(&mut self, text: &[u8]) -> PendingLine {
        match ingest::parse(text, None) {
            Err(problem) => PendingLine::Rejected(problem),
            Ok(event)
                if let Err(problem) = self.caller.expect_organization(&event.organization) =>
            {
                PendingLine::Rejected(problem)
            }
            #[cfg(feature = "postgres")]
            Ok(event) if !self.is_held(&event) => self.pass(event, text).await,
            Ok(event) => self.enqueue(event).await,
        }
    }

    async fn enqueue(&self, event: NewEvent) -> PendingLine {
        match self.app.engine.enqueue(event).await {
            Ok(pending) => PendingLine::ForCommit(pending),
            Err(error) => PendingLine::Rejected(error.into()),
        }
    }

    /// Whether this daemon decides about the event's organization.
    #[cfg(feature = "postgres")]
    fn is_held(&self, event: &NewEvent) -> bool {
        let peers = self.app.peers();
        peers.is_none_or(|peers| peers.holds(&event.organization))
    }

    #[cfg(feature = "postgres")]
    async fn pass(&mut self, event: NewEvent, text: &[u8]) -> PendingLine {
        let Some(peers) = self.app.peers().cloned() else {
            return PendingLine::Rejected(Problem::unheld());
        };
        if self.passed {
            // A passed line is never passed on again: it is this daemon's, or soon will be.
            let _held = peers.comes_to_hold(&event.organization).await;
            return self.enqueue(event).await;
        }
        match peers.holder(&event.organization).await {
            Holder::Peer(seat, member) => {
                PendingLine::Passed(self.elsewhere.pass(&peers, seat, member, text).await)
            }
            // It came here meanwhile.
            Holder::Here => self.enqueue(event).await,
            Holder::Nobody => PendingLine::Rejected(Problem::unheld()),
        }
    }

    /// Sends the known results, in order, up to the first that is not known.
    async fn answer_ready(&mut self) -> Result<(), Gone> {
        while let Some((line, waiting)) = self.waiting.front_mut() {
            let line = *line;
            match waiting {
                PendingLine::Rejected(problem) => {
                    let problem = problem.clone();
                    self.write(&rejected(line, problem));
                }
                #[cfg(feature = "postgres")]
                PendingLine::Passed(passed) => {
                    let Some(answer) = passed.take() else {
                        break;
                    };
                    self.write_passed(line, answer);
                }
                PendingLine::ForCommit(pending) => {
                    let Some(done) = futures_util::FutureExt::now_or_never(pending) else {
                        break;
                    };
                    self.write_done(line, done);
                }
            }
            self.waiting.pop_front();
            if self.out.len() >= CHUNK_BYTES {
                self.send().await?;
            }
        }
        self.send().await
    }

    fn write_done(&mut self, line: u64, done: Result<Result<Accepted, Refusal>, SubmitError>) {
        let accepted = match done {
            Ok(answer) => answer.map_err(|refusal| refused(refusal, "event")),
            Err(error) => Err(error.into()),
        };
        match accepted {
            Ok(accepted) => self.write::<Problem>(&LineResult {
                line,
                status: if accepted.replayed {
                    "replayed"
                } else {
                    "accepted"
                },
                id: Some(accepted.event.id.to_string()),
                deliveries: Some(accepted.event.deliveries),
                problem: None,
            }),
            Err(problem) => self.write(&rejected(line, problem)),
        }
    }

    #[cfg(feature = "postgres")]
    fn write_passed(&mut self, line: u64, answer: Result<LineAnswer, Problem>) {
        match answer {
            Ok(answer) => self.write(&LineResult {
                line,
                status: &answer.status,
                id: answer.id,
                deliveries: answer.deliveries,
                problem: answer.problem,
            }),
            Err(problem) => self.write(&rejected(line, problem)),
        }
    }

    fn write<P: Serialize>(&mut self, line: &LineResult<'_, P>) {
        // Strings and numbers only: serializing into memory can't fail.
        if serde_json::to_writer(&mut self.out, line).is_ok() {
            self.out.push(b'\n');
        }
    }

    async fn send(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.out));
        let place = tokio::select! {
            () = self.answers.closed() => return Err(Gone),
            place = self.room.take(chunk.len()) => place?,
        };
        self.answers.send((chunk, place)).await.map_err(|_| Gone)
    }
}

fn rejected(line: u64, problem: Problem) -> LineResult<'static, Problem> {
    LineResult {
        line,
        status: "rejected",
        id: None,
        deliveries: None,
        problem: Some(problem),
    }
}

/// Waits for the oldest line's commit and keeps its result in its place.
async fn oldest(waiting: &mut VecDeque<(u64, PendingLine)>) {
    match waiting.front_mut() {
        Some((_, PendingLine::ForCommit(pending))) => pending.wait().await,
        #[cfg(feature = "postgres")]
        Some((_, PendingLine::Passed(passed))) => passed.wait().await,
        Some((_, PendingLine::Rejected(_))) | None => {}
    }
}

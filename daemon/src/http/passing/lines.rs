//! Lines of a batch that other daemons decide about: one stream to each daemon, so that they keep their order.

use super::uri;
use crate::http::lines::LineReader;
use crate::http::problem::Problem;
use crate::peers::{PeerError, Peers};
use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;
use stormhook_postgres::cluster::{Member, Seat};
use tokio::sync::{mpsc, oneshot};

/// Lines that wait to be sent to one daemon.
const UNSENT: usize = 256;
/// The longest answer to a line.
const ANSWER_BYTES: usize = 64 << 10;

/// What another daemon answered to a line.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct LineAnswer {
    pub(in crate::http) status: String,
    pub(in crate::http) id: Option<String>,
    pub(in crate::http) deliveries: Option<u32>,
    pub(in crate::http) problem: Option<Box<RawValue>>,
}

/// The answer to a line, once it is known.
type Answering = oneshot::Receiver<Result<LineAnswer, Problem>>;
type Answer = oneshot::Sender<Result<LineAnswer, Problem>>;

/// A line that another daemon answers.
pub(in crate::http) struct PassedOn {
    answering: Answering,
    known: Option<Result<LineAnswer, Problem>>,
}

impl PassedOn {
    /// Waits until the answer is known, and keeps it.
    pub(in crate::http) async fn wait(&mut self) {
        if self.known.is_none() {
            let answer = (&mut self.answering).await;
            self.known = Some(answer.unwrap_or_else(|_| Err(Problem::unheld())));
        }
    }

    /// Returns the answer if it is known.
    pub(in crate::http) fn take(&mut self) -> Option<Result<LineAnswer, Problem>> {
        futures_util::FutureExt::now_or_never(self.wait())?;
        self.known.take()
    }
}

/// The streams of one batch.
#[derive(Debug, Default)]
pub(in crate::http) struct Lines(HashMap<Seat, Stream>);

#[derive(Debug)]
struct Stream {
    lines: mpsc::Sender<Bytes>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Lines {
    /// Passes a line on to the daemon on this seat. Waits for room.
    pub(in crate::http) async fn pass(
        &mut self,
        peers: &Arc<Peers>,
        seat: Seat,
        member: Member,
        line: &[u8],
    ) -> PassedOn {
        let stream = match self.0.entry(seat) {
            std::collections::hash_map::Entry::Occupied(mut open) => {
                if open.get().lines.is_closed() {
                    open.insert(Stream::open(peers, seat, member));
                }
                open.into_mut()
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Stream::open(peers, seat, member))
            }
        };
        let (sender, answering) = oneshot::channel();
        // One that is not taken is dropped, which tells the caller. The answer is expected before the line is sent.
        let _ended = stream.answers.send(sender);
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        let _ended = stream.lines.send(bytes.into()).await;
        PassedOn {
            answering,
            known: None,
        }
    }
}

impl Stream {
    fn open(peers: &Arc<Peers>, seat: Seat, member: Member) -> Self {
        let (lines, unsent) = mpsc::channel(UNSENT);
        let (answers, expected) = mpsc::unbounded_channel();
        let peers = Arc::clone(peers);
        tokio::spawn(async move { run(&peers, seat, &member, unsent, expected).await });
        Self { lines, answers }
    }
}

async fn run(
    peers: &Peers,
    seat: Seat,
    member: &Member,
    unsent: mpsc::Receiver<Bytes>,
    mut expected: mpsc::UnboundedReceiver<Answer>,
) {
    let body = futures_util::stream::unfold(unsent, |mut unsent| async move {
        let line = unsent.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), unsent))
    });
    let mut request = Request::new(Body::from_stream(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri("/v1/events/batch");
    let kind = HeaderValue::from_static("application/x-ndjson");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let problem = match peers.connections.pass(seat, member, request).await {
        Ok(answer) => read(answer.into_body(), &mut expected).await,
        Err(PeerError::Unreachable(error)) => {
            tracing::debug!(seat, error, "lines of a batch could not be passed on");
            Problem::unheld()
        }
        Err(error) => {
            tracing::warn!(seat, %error, "another daemon gave no answer to a batch");
            Problem::unanswered()
        }
    };
    expected.close();
    while let Some(answer) = expected.recv().await {
        let _gone = answer.send(Err(problem.clone()));
    }
}

/// Reads answers, in order of the lines. Returns what to tell lines that get none.
async fn read(mut body: Incoming, expected: &mut mpsc::UnboundedReceiver<Answer>) -> Problem {
    let mut lines = LineReader::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        lines.buffer.extend_from_slice(&data);
        while let Some((_, line)) = lines.next(ANSWER_BYTES, false) {
            let answer = line.map(|line| serde_json::from_slice::<LineAnswer>(&line));
            let Ok(Ok(answer)) = answer else {
                return Problem::unanswered();
            };
            if answer.status == "cut" {
                // It reads no more: what it has not answered was not stored.
                return Problem::unheld();
            }
            if let Some(expecting) = expected.recv().await {
                let _gone = expecting.send(Ok(answer));
            }
        }
    }
    Problem::unanswered()
}

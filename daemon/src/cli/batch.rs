//! Streaming NDJSON to `POST /v1/events/batch`: answers are read while lines are written, and nothing is kept of either.
//!
//! Back-pressure goes all the way: while the daemon doesn't read, the channel fills and the reader of the file or of stdin
//! stands still. A line without an answer is never counted as accepted: what became of it is not known.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::Session;
use super::client::Body;
use super::failure::Failure;
use super::lines::{LineCount, LineTooLong, Lines};
use super::progress::{self, Progress};
use super::table::{counted, grouped};

const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of the socket.
const CHUNKS_AHEAD: usize = 4;
/// How long the lines wait for the head of the answer.
const ANSWER_FIRST_WITHIN: Duration = Duration::from_secs(1);
/// An answer line is an id and a count, or a problem.
const ANSWER_LINE_BYTES: usize = 64 * 1024;
/// Rejected lines whose problems are told one by one; the rest are counted.
const PROBLEMS_SHOWN: u64 = 1_000;

/// How the lines of a stream fared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Newly stored.
    pub(crate) accepted: u64,
    /// Had been stored before under the same key.
    pub(crate) replayed: u64,
    /// Not stored, with a problem.
    pub(crate) rejected: u64,
    /// Deliveries of the accepted ones.
    pub(crate) deliveries: u64,
}

impl Tally {
    /// Lines that have an answer.
    pub(crate) fn answered(&self) -> u64 {
        self.accepted + self.replayed + self.rejected
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} replayed, {} rejected",
            grouped(self.accepted),
            grouped(self.replayed),
            grouped(self.rejected)
        )
    }
}

#[derive(Deserialize)]
struct AnswerLine<'a> {
    line: u64,
    #[serde(borrow)]
    status: std::borrow::Cow<'a, str>,
    #[serde(default)]
    deliveries: Option<u64>,
    #[serde(borrow, default)]
    problem: Option<&'a RawValue>,
}

/// What the reading thread has seen so far.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    lines: AtomicU64,
    ended: AtomicBool,
}

impl Sent {
    fn so_far(&self) -> progress::Read {
        // First whether it is all: what is read after that is then all of it.
        let ended = self.ended.load(Ordering::Acquire);
        progress::Read {
            bytes: self.bytes.load(Ordering::Relaxed),
            lines: self.lines.load(Ordering::Acquire),
            ended,
        }
    }
}

/// Sends a stream of lines; `bytes` is its size where that is known.
pub(crate) async fn send(
    source: Box<dyn Read + Send>,
    bytes: Option<u64>,
    session: &Session,
) -> Result<(), Failure> {
    let sent = Arc::new(Sent::default());
    let (answered, wait_for_answer) = oneshot::channel();
    let body = body_of(source, Arc::clone(&sent), wait_for_answer);
    let response = session
        .client
        .open(
            Method::POST,
            "/v1/events/batch",
            Some("application/x-ndjson"),
            body,
        )
        .await?;
    // The body may be under way already, after waiting in vain: then nobody listens here.
    let _ = answered.send(());
    let progress = Progress::start(bytes);
    let mut tally = Tally::default();
    let end = read_answers(response.into_body(), session, &sent, &progress, &mut tally).await;
    progress.finish();
    if !session.screen.json || end.is_err() {
        session.screen.remark(&format!(
            "{tally}: {}",
            counted(tally.deliveries, "delivery", "deliveries")
        ));
    }
    end?;
    let unanswered = sent
        .lines
        .load(Ordering::Acquire)
        .saturating_sub(tally.answered());
    if unanswered > 0 {
        return Err(Failure::Unreachable(without_answer(unanswered)));
    }
    if tally.rejected > 0 {
        Err(Failure::Shown)
    } else {
        Ok(())
    }
}

fn without_answer(lines: u64) -> String {
    let counted = counted(lines, "line has", "lines have");
    let (it, its, keys) = if lines == 1 {
        ("it", "its", "key")
    } else {
        ("them", "their", "keys")
    };
    format!(
        "{counted} no answer: what became of {it} is not known. Send {it} again with {its} idempotency {keys}"
    )
}

/// A body that a thread of its own fills: reading a file or stdin blocks.
///
/// It begins when the daemon has answered, which it does at once: a refusal is then heard, where writing on to a daemon that
/// has refused and closed would only end in a broken pipe. A daemon that wants to see lines first gets them a little later.
fn body_of(
    mut source: Box<dyn Read + Send>,
    sent: Arc<Sent>,
    answered: oneshot::Receiver<()>,
) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
    std::thread::spawn(move || {
        let mut count = LineCount::default();
        let mut buffer = vec![0_u8; CHUNK_BYTES];
        loop {
            let chunk = match source.read(&mut buffer) {
                Ok(0) => {
                    sent.ended.store(true, Ordering::Release);
                    break;
                }
                Ok(read) => Ok(Bytes::copy_from_slice(
                    buffer.get(..read).unwrap_or_default(),
                )),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            if let Ok(chunk) = &chunk {
                count.feed(chunk);
                sent.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                sent.lines.store(count.lines(), Ordering::Release);
            }
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                break;
            }
        }
    });
    let state = (receiver, Some(answered));
    let chunks = stream::unfold(state, |(mut receiver, answered)| async move {
        if let Some(answered) = answered {
            // In vain or not, the lines go out now.
            let _ = tokio::time::timeout(ANSWER_FIRST_WITHIN, answered).await;
        }
        let chunk = receiver.recv().await?;
        Some((chunk.map(Frame::data), (receiver, None)))
    });
    StreamBody::new(chunks).boxed_unsync()
}

impl From<LineTooLong> for Failure {
    fn from(error: LineTooLong) -> Self {
        Self::No(error.to_string())
    }
}

async fn read_answers(
    mut body: Incoming,
    session: &Session,
    sent: &Sent,
    progress: &Progress,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut lines = Lines::new(ANSWER_LINE_BYTES);
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| broken(&error))?.into_data() else {
            continue;
        };
        lines.feed(&chunk, |line| note(line, session, progress, tally))?;
        progress.show(sent.so_far(), tally);
    }
    let rest = lines.into_rest();
    if rest.is_empty() {
        Ok(())
    } else {
        note(&rest, session, progress, tally)
    }
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::Unreachable(format!(
        "the stream broke off ({error}): what became of the lines without an answer is not known. Send them again with their idempotency keys"
    ))
}

fn note(
    line: &[u8],
    session: &Session,
    progress: &Progress,
    tally: &mut Tally,
) -> Result<(), Failure> {
    if line.is_empty() {
        return Ok(());
    }
    if session.screen.json {
        session.screen.answer(line)?;
    }
    let answer: AnswerLine<'_> = serde_json::from_slice(line)
        .map_err(|error| Failure::No(format!("an answer line of the daemon can't be read ({error}): is another program listening on this socket?")))?;
    match answer.status.as_ref() {
        "accepted" => {
            tally.accepted += 1;
            tally.deliveries += answer.deliveries.unwrap_or(0);
        }
        "replayed" => tally.replayed += 1,
        _ => {
            tally.rejected += 1;
            if tally.rejected <= PROBLEMS_SHOWN && !session.screen.json {
                let text = rejection(answer.line, answer.problem);
                progress.aside(|| session.screen.complain(&text));
            }
            if tally.rejected == PROBLEMS_SHOWN + 1 {
                progress.aside(|| {
                    session
                        .screen
                        .remark("further rejected lines are only counted");
                });
            }
        }
    }
    Ok(())
}

/// Why a line was rejected, on one line.
fn rejection(line: u64, problem: Option<&RawValue>) -> String {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Problem {
        title: String,
        detail: String,
        code: String,
        field: Option<String>,
    }
    let problem: Problem = problem
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let what = if problem.detail.is_empty() {
        problem.title
    } else {
        problem.detail
    };
    let field = problem
        .field
        .map(|field| format!(", field {field}"))
        .unwrap_or_default();
    super::screen::plain(&format!("line {line}: {what} ({}{field})", problem.code))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::super::pretend::{self, Answer};
    use super::*;

    /// A daemon that answers each line as its first byte says: `a`ccepted, `r`eplayed, `s` is passed over in silence, `x` ends the connection, anything else is rejected.
    fn answer_lines(request: Request<Incoming>) -> Answer {
        assert_eq!(request.uri().path(), "/v1/events/batch");
        assert_eq!(request.headers()["content-type"], "application/x-ndjson");
        let state = (request.into_body(), Lines::new(1 << 20), 0_u64, false);
        let answers = stream::unfold(
            state,
            |(mut body, mut lines, mut number, ended)| async move {
                if ended {
                    return None;
                }
                let frame = body.frame().await;
                let ended = frame.is_none();
                let chunk = frame.map_or(
                    Bytes::from_static(
                        b"
",
                    ),
                    |frame| frame.unwrap().into_data().unwrap(),
                );
                let mut out = String::new();
                let mut cut = false;
                lines
                .feed(&chunk, |line| {
                    number += 1;
                    match line.first() {
                        None | Some(b's') => {}
                        Some(b'a') => out.push_str(&format!("{{\"line\":{number},\"status\":\"accepted\",\"id\":\"evt_1\",\"deliveries\":2}}\n")),
                        Some(b'r') => out.push_str(&format!("{{\"line\":{number},\"status\":\"replayed\",\"id\":\"evt_1\",\"deliveries\":2}}\n")),
                        Some(b'x') => cut = true,
                        Some(_) => out.push_str(&format!(
                            "{{\"line\":{number},\"status\":\"rejected\",\"problem\":{{\"title\":\"T\",\"detail\":\"D\",\"code\":\"invalid_json\"}}}}\n"
                        )),
                    }
                    Ok::<(), LineTooLong>(())
                })
                .unwrap();
                let frame = if cut {
                    Err(io::Error::other("cut"))
                } else {
                    Ok(Frame::data(Bytes::from(out)))
                };
                Some((frame, (body, lines, number, ended || cut)))
            },
        );
        Response::new(StreamBody::new(answers).boxed_unsync())
    }

    async fn run(lines: Vec<u8>, answer: fn(Request<Incoming>) -> Answer) -> Result<(), Failure> {
        let daemon = pretend::daemon(answer);
        send(Box::new(io::Cursor::new(lines)), None, &daemon.session).await
    }

    #[tokio::test]
    async fn a_stream_whose_lines_are_all_taken_is_ok() {
        run(b"a1\n\nr2\na3\n".to_vec(), answer_lines).await.unwrap();
    }

    #[tokio::test]
    async fn a_long_stream_passes_with_answers_read_meanwhile() {
        let mut lines = Vec::new();
        for _ in 0..200_000 {
            lines.extend_from_slice(b"a some event of a hundred bytes or so that is long enough to fill every buffer on the way\n");
        }
        run(lines, answer_lines).await.unwrap();
    }

    #[tokio::test]
    async fn one_rejected_line_makes_the_status_1() {
        let failure = run(b"a1\nbad\na3\n".to_vec(), answer_lines)
            .await
            .unwrap_err();
        assert_eq!(failure.status(), super::super::failure::REFUSED);
    }

    #[tokio::test]
    async fn lines_without_an_answer_are_never_called_accepted() {
        let failure = run(b"a1\na2\nx\na4\n".to_vec(), answer_lines)
            .await
            .unwrap_err();
        assert_eq!(
            failure.status(),
            super::super::failure::UNREACHABLE,
            "{failure}"
        );
        assert!(failure.to_string().contains("not known"), "{failure}");
    }

    #[tokio::test]
    async fn a_line_passed_over_in_a_stream_that_ends_well_is_missed() {
        let failure = run(b"a1\ns2\na3\n".to_vec(), answer_lines)
            .await
            .unwrap_err();
        assert_eq!(failure.status(), super::super::failure::UNREACHABLE);
        assert!(
            failure.to_string().starts_with("1 line has no answer"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn a_daemon_that_refuses_the_stream_is_heard() {
        fn refuse(_: Request<Incoming>) -> Answer {
            pretend::said(503, r#"{"title":"Busy","code":"busy"}"#)
        }
        let failure = run(b"a1\n".to_vec(), refuse).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Refused(refusal) if refusal.status == 503),
            "{failure}"
        );
    }

    #[test]
    fn a_rejection_names_line_reason_code_and_field() {
        let raw = serde_json::value::RawValue::from_string(
            r#"{"title":"T","detail":"type is missing; give one like order.created","code":"invalid_field","field":"type"}"#.into(),
        )
        .unwrap();
        assert_eq!(
            rejection(7, Some(&raw)),
            "line 7: type is missing; give one like order.created (invalid_field, field type)"
        );
        assert_eq!(rejection(8, None), "line 8:  ()");
    }
}

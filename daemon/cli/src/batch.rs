//! Streams NDJSON to `POST /v1/events/batch`: reads results while it writes lines.
//!
//! A line is kept until it has a result. If a stream ends before that (the daemon restarts, or cut it after a pause),
//! the rest goes into a new stream. Each line has a key, so resending a stored line only repeats its result. LineReader that
//! stay without a result are named at the end and never counted as accepted. Back-pressure reaches the input: while the
//! daemon doesn't answer, nothing more is read.

pub(super) mod answer;
mod source;
mod window;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::{mpsc, oneshot};

use crate::Session;
use crate::client::{Body, CALL_TIMEOUT};
use crate::failure::Failure;
use crate::lines::{LineReader, LineTooLong};
use crate::progress::Progress;
use crate::table::counted;
use crate::tally::Tally;
use answer::{AnswerLine, Problem, Verdict};
use source::{Counts, Item};
use window::Window;

/// Pieces that wait for the socket.
const FRAMES_AHEAD: usize = 2;
/// How long the lines wait for the head of the response.
const ANSWER_FIRST_WITHIN: Duration = Duration::from_secs(1);
/// A result line is an id and a count, or a problem.
const ANSWER_LINE_BYTES: usize = 64 * 1024;
/// How many rejected lines are shown one by one; the rest are only counted.
const PROBLEMS_SHOWN: u64 = 1_000;
/// Pauses before a new stream: the first one without progress, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// Sends a stream of lines; `bytes` is its size if known. Waits for a daemon that is unreachable or full for as long as
/// `patience` without progress.
pub(crate) async fn send(
    source: Box<dyn Read + Send>,
    bytes: Option<u64>,
    patience: Duration,
    session: &Session,
) -> Result<(), Failure> {
    let counts = Arc::new(Counts::default());
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::local("get randomness for keys", &io::Error::other(error)))?;
    let mut sending = Sending {
        session,
        lines: source::read(source, Arc::clone(&counts), u64::from_ne_bytes(random)),
        counts,
        progress: Progress::start(bytes),
        tally: Tally::default(),
        window: Window::default(),
        ended: false,
        unread: None,
        holding: None,
    };
    let end = sending.run(patience).await;
    sending.progress.finish();
    let tally = sending.tally;
    if !session.screen.json || end.is_err() {
        session.screen.remark(&format!(
            "{tally}: {}",
            counted(tally.deliveries, "delivery", "deliveries")
        ));
    }
    end?;
    if let Some(error) = sending.unread {
        return Err(Failure::local("read the events", &error));
    }
    if tally.rejected > 0 {
        Err(Failure::Shown)
    } else {
        Ok(())
    }
}

struct Sending<'s> {
    session: &'s Session,
    lines: mpsc::Receiver<Vec<Item>>,
    counts: Arc<Counts>,
    progress: Progress,
    tally: Tally,
    window: Window,
    /// Whether the input has ended.
    ended: bool,
    /// The error, if the input could not be read.
    unread: Option<io::Error>,
    /// Why nothing more goes into the open stream.
    holding: Option<Problem>,
}

impl Sending<'_> {
    async fn run(&mut self, patience: Duration) -> Result<(), Failure> {
        let (mut pause, mut waited) = (PAUSE_FIRST, Duration::ZERO);
        while self.has_lines().await? {
            let before = self.tally.answered();
            let end = self.attempt().await;
            if let Err(failure) = &end
                && !may_pass(failure)
            {
                self.name_the_first();
                return end;
            }
            if self.window.is_empty() {
                continue;
            }
            if self.tally.answered() > before {
                (pause, waited) = (PAUSE_FIRST, Duration::ZERO);
            }
            if waited >= patience {
                return Err(self.given_up(end));
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(PAUSE_MOST);
        }
        Ok(())
    }

    /// Waits for lines to send; returns false once all have been sent.
    async fn has_lines(&mut self) -> Result<bool, Failure> {
        while self.window.is_empty() && !self.ended {
            let items = self.lines.recv().await;
            self.take(items)?;
        }
        Ok(!self.window.is_empty())
    }

    fn take(&mut self, items: Option<Vec<Item>>) -> Result<(), Failure> {
        let Some(items) = items else {
            self.ended = true;
            return Ok(());
        };
        for item in items {
            match item {
                Item::Line(line) => self.window.push(line),
                Item::TooLong(number) => {
                    let json = format!(
                        r#"{{"line":{number},"status":"rejected","problem":{{"code":"event_too_large","detail":"a line may have at most 16 MiB"}}}}"#
                    );
                    self.print(json.as_bytes())?;
                    self.reject(number, &Problem::too_long());
                }
                Item::Failed(error) => self.unread = Some(error),
            }
        }
        Ok(())
    }

    /// Sends the waiting lines, and those that arrive meanwhile, until the stream ends.
    async fn attempt(&mut self) -> Result<(), Failure> {
        while let Some(place) = self.window.next_alone() {
            self.send_alone(place).await?;
        }
        if self.window.is_empty() {
            return Ok(());
        }
        self.window.open_stream();
        self.holding = None;
        let (frames, receiver) = mpsc::channel(FRAMES_AHEAD);
        // A daemon that reads lines before it responds finds some.
        let _there_is_room = frames.try_send(self.window.next_frame());
        let (answered, wait_for_answer) = oneshot::channel();
        let response = self
            .session
            .client
            .open(
                Method::POST,
                "/v1/events/batch",
                Some("application/x-ndjson"),
                body_of(receiver, wait_for_answer),
            )
            .await?;
        // The body may already be in use after a timeout: then nobody listens here.
        let _ = answered.send(());
        self.exchange(response.into_body(), frames).await
    }

    async fn exchange(
        &mut self,
        mut answers: Incoming,
        frames: mpsc::Sender<Bytes>,
    ) -> Result<(), Failure> {
        let mut frames = Some(frames);
        let mut lines = LineReader::new(ANSWER_LINE_BYTES);
        loop {
            let all_out = self.window.is_sent();
            if self.holding.is_some() || (self.ended && all_out) {
                frames = None;
            }
            let room = async {
                match &frames {
                    Some(frames) => frames.reserve().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                frame = answers.frame() => {
                    let Some(frame) = frame else {
                        break;
                    };
                    let frame = frame.map_err(|error| broken(&error))?;
                    if let Ok(chunk) = frame.into_data() {
                        lines.feed(&chunk, |line| self.note(line))?;
                        self.progress.show(self.counts.so_far(), &self.tally);
                    }
                }
                room = room, if !all_out => match frames.take() {
                    Some(open) if room => {
                        let _there_is_room = open.try_send(self.window.next_frame());
                        frames = Some(open);
                    }
                    // The connection accepts nothing more; results still arrive.
                    _ => {}
                },
                items = self.lines.recv(), if !self.ended && self.window.has_room() => self.take(items)?,
            }
        }
        let rest = lines.into_rest();
        self.note(&rest)
    }

    fn note(&mut self, line: &[u8]) -> Result<(), Failure> {
        if line.is_empty() {
            return Ok(());
        }
        let answer = AnswerLine::read(line)?;
        let verdict = answer.verdict();
        if let Verdict::Cut(problem) = verdict {
            self.holding = Some(problem);
            return Ok(());
        }
        let Some(place) = self.window.place_of(answer.line) else {
            return Err(Failure::No(format!(
                "the daemon answered line {}, which was not sent to it: check that no other program answers there",
                answer.line
            )));
        };
        match verdict {
            Verdict::NotNow(problem) => {
                self.holding.get_or_insert(problem);
                Ok(())
            }
            Verdict::Rejected(problem)
                if problem.code == "event_too_large" && self.window.send_alone(place) =>
            {
                self.holding.get_or_insert(problem);
                Ok(())
            }
            verdict => self.settle(place, line, &verdict),
        }
    }

    /// Removes a line that has its result from the waiting ones.
    fn settle(&mut self, place: usize, answer: &[u8], verdict: &Verdict) -> Result<(), Failure> {
        let Some(line) = self.window.remove(place) else {
            return Ok(());
        };
        let number = line.number;
        self.print(&answer::renumbered(answer, number))?;
        match verdict {
            Verdict::Accepted { deliveries } => {
                self.tally.accepted += 1;
                self.tally.deliveries += deliveries;
            }
            Verdict::Replayed => self.tally.replayed += 1,
            Verdict::Rejected(problem) | Verdict::NotNow(problem) | Verdict::Cut(problem) => {
                self.reject(number, problem);
            }
        }
        Ok(())
    }

    fn print(&self, answer: &[u8]) -> Result<(), Failure> {
        if self.session.screen.json {
            self.session.screen.answer(answer)?;
        }
        Ok(())
    }

    fn reject(&mut self, number: u64, problem: &Problem) {
        self.tally.rejected += 1;
        let screen = &self.session.screen;
        if self.tally.rejected <= PROBLEMS_SHOWN && !screen.json {
            let text = format!("line {number}: {problem}");
            self.progress.aside(|| screen.complain(&text));
        }
        if self.tally.rejected == PROBLEMS_SHOWN + 1 {
            self.progress
                .aside(|| screen.remark("further rejected lines are counted but not shown"));
        }
    }

    /// Sends one line as a single event, as the producer wrote it, with the key in the header.
    async fn send_alone(&mut self, place: usize) -> Result<(), Failure> {
        let Some((line, key)) = self.window.line(place).and_then(|line| {
            let key = line.added.as_ref()?.key.clone();
            Some((line.original(), key))
        }) else {
            return Ok(());
        };
        let client = &self.session.client;
        let answer = client
            .post_keyed("/v1/events", line, &key, CALL_TIMEOUT)
            .await;
        let (json, verdict) = answer::of_one_event(answer)?;
        self.settle(place, json.as_bytes(), &verdict)
    }

    /// The patience with the daemon is exhausted.
    fn given_up(&self, end: Result<(), Failure>) -> Failure {
        let first = self.first_without_an_answer();
        match (end, &self.holding) {
            (Err(Failure::Refused(refusal)), _) => {
                Failure::No(format!("{}\n{first}", refusal.in_words().what))
            }
            (Err(failure), _) => Failure::Unreachable(format!("{failure}\n{first}")),
            (Ok(()), Some(problem)) => Failure::No(format!("{problem}\n{first}")),
            (Ok(()), None) => {
                Failure::Unreachable(format!("The daemon ended the stream.\n{first}"))
            }
        }
    }

    fn name_the_first(&self) {
        if !self.window.is_empty() {
            let screen = &self.session.screen;
            self.progress
                .aside(|| screen.remark(&self.first_without_an_answer()));
        }
    }

    fn first_without_an_answer(&self) -> String {
        let Some(first) = self.window.line(0) else {
            return String::new();
        };
        let key = match &first.added {
            Some(added) => format!(" (sent with the idempotency key {})", added.key),
            None => String::new(),
        };
        format!(
            "Line {}{key} is the first without an answer: it is not known whether it and the lines after it were accepted. Send them again with the same idempotency keys.",
            first.number
        )
    }
}

/// Whether a new stream may succeed: the daemon is unreachable, starting, stopping or full.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable(_) => true,
        Failure::Refused(refusal) => refusal.status == 503,
        _ => false,
    }
}

/// Returns a body of the chunks in the channel.
///
/// It starts when the daemon has responded, which it does immediately: this way a refusal is read, while writing on to
/// a daemon that has refused and closed would only end in a broken pipe. A daemon that reads lines first gets them a
/// little later.
fn body_of(receiver: mpsc::Receiver<Bytes>, answered: oneshot::Receiver<()>) -> Body {
    let state = (receiver, Some(answered));
    let chunks = stream::unfold(state, |(mut receiver, answered)| async move {
        if let Some(answered) = answered {
            // Whether or not it responded, the lines are sent now.
            let _ = tokio::time::timeout(ANSWER_FIRST_WITHIN, answered).await;
        }
        let chunk = receiver.recv().await?;
        Some((Ok(Frame::data(chunk)), (receiver, None)))
    });
    StreamBody::new(chunks).boxed_unsync()
}

impl From<LineTooLong> for Failure {
    fn from(error: LineTooLong) -> Self {
        Self::No(error.to_string())
    }
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::Unreachable(format!("The stream was interrupted ({error})."))
}

#[cfg(test)]
mod tests;

//! An HTTP/1.1 connection that its user drives. A task of its own would have to be woken for every request and wake the
//! attempt for every response; here both are steps of the attempt. Nothing watches an idle connection: the next use
//! detects that the receiver has closed it.
//!
//! Sending and reading run concurrently, and an error in one does not end the other: a receiver may answer before it has
//! read the request, and may answer and then reset the connection.

use super::framing::{Framing, Part};
use super::head::{Progress, Reader};
use bytes::Bytes;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// How much of a response one read takes.
const INPUT_BYTES: usize = 8 * 1024;
/// How much input is skipped while a connection is being closed.
const LINGER_BYTES: usize = 1024 * 1024;

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// How much of the request has been sent.
enum Sending {
    Writing,
    Flushing,
    Sent,
    Broken(io::Error),
}

/// The result of waiting for the head of a response.
#[derive(Debug)]
pub(super) enum Heard {
    /// It was read to its end.
    Head,
    /// It was read as far as it is ever read.
    Cut,
    /// Something that is not HTTP, described in plain words.
    NotHttp(String),
    /// The connection ended.
    Ended(io::Error),
}

/// How far a body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    ToItsEnd,
    Enough,
}

/// The part of a body that is kept, and how much of the body is read.
pub(super) struct Excerpt {
    pub(super) bytes: Vec<u8>,
    wanted: usize,
    left: usize,
}

impl Excerpt {
    pub(super) fn new(wanted: usize, read: usize) -> Self {
        Self {
            bytes: Vec::new(),
            wanted,
            left: read,
        }
    }

    /// Takes a part, and returns whether more should be read.
    pub(super) fn take(&mut self, data: &[u8]) -> bool {
        let wanted = self.wanted.saturating_sub(self.bytes.len());
        let kept = data.get(..wanted.min(data.len())).unwrap_or_default();
        self.bytes.extend_from_slice(kept);
        let fits = data.len() <= self.left;
        self.left = self.left.saturating_sub(data.len());
        fits
    }
}

/// See the module.
pub(super) struct Http1 {
    io: Box<dyn Io>,
    input: Box<[u8]>,
    /// Bytes that were read but not used yet.
    unused: std::ops::Range<usize>,
    /// Whether the receiver has closed its side.
    ended: bool,
    /// Whether bytes were read that belong to no response.
    passed_over: bool,
    head: Vec<u8>,
    body: Bytes,
    /// How much of head and body has been written.
    written: usize,
    sending: Sending,
}

impl Http1 {
    pub(super) fn new<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self {
            io: Box::new(io),
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            unused: 0..0,
            ended: false,
            passed_over: false,
            head: Vec::new(),
            body: Bytes::new(),
            written: 0,
            sending: Sending::Sent,
        }
    }

    /// Whether a request may be sent, as far as that can be known: the receiver has not closed the connection and sent
    /// nothing unrequested.
    pub(super) fn is_quiet(&mut self) -> bool {
        let read = self.poll_input(&mut Context::from_waker(Waker::noop()));
        read.is_pending()
    }

    /// Prepares a request, whose head `fill` writes.
    pub(super) fn put(&mut self, fill: impl FnOnce(&mut Vec<u8>), body: Bytes) {
        self.head.clear();
        fill(&mut self.head);
        self.body = body;
        self.written = 0;
        self.sending = Sending::Writing;
    }

    /// Whether the whole request has been passed to the system.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.sending, Sending::Sent)
    }

    /// Whether the whole request was sent and all input was used.
    pub(super) fn is_clean(&self) -> bool {
        self.is_sent() && self.unused.is_empty() && !self.ended && !self.passed_over
    }

    /// Sends the request and reads the head of the response.
    pub(super) async fn answer(&mut self, head: &mut Reader) -> Heard {
        poll_fn(|context| {
            self.poll_send(context);
            loop {
                let (used, progress) = head.feed(self.unused());
                self.unused.start += used;
                match progress {
                    Progress::More => {}
                    Progress::Done => return Poll::Ready(Heard::Head),
                    Progress::Cut => return Poll::Ready(Heard::Cut),
                    Progress::NotHttp(why) => return Poll::Ready(Heard::NotHttp(why)),
                }
                match self.poll_input(context) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Heard::Ended(self.why_ended(None))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(e)) => {
                        return Poll::Ready(Heard::Ended(self.why_ended(Some(e))));
                    }
                    Poll::Pending => match &self.sending {
                        // A connection that failed other than by its end yields nothing more.
                        Sending::Broken(e) if !is_end(e) => {
                            return Poll::Ready(Heard::Ended(self.why_ended(None)));
                        }
                        _ => return Poll::Pending,
                    },
                }
            }
        })
        .await
    }

    /// Reads a body while sending continues.
    pub(super) async fn body(&mut self, framing: &mut Framing, excerpt: &mut Excerpt) -> Read {
        poll_fn(|context| {
            self.poll_send(context);
            loop {
                let mut input = self.input.get(self.unused.clone()).unwrap_or_default();
                let read = take_parts(framing, &mut input, excerpt);
                self.unused.start = self.unused.end - input.len();
                if let Some(read) = read {
                    return Poll::Ready(read);
                }
                match ready!(self.poll_input(context)) {
                    Ok(0) => return Poll::Ready(Read::ToItsEnd),
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Read::Enough),
                }
            }
        })
        .await
    }

    /// Sends the rest of the request, or until the connection fails. Skips input meanwhile: a receiver may read on only
    /// after its response has been read.
    pub(super) async fn send_rest(&mut self) {
        poll_fn(|context| {
            loop {
                self.poll_send(context);
                if matches!(self.sending, Sending::Sent | Sending::Broken(_)) {
                    return Poll::Ready(());
                }
                // A receiver that has closed its side may still be reading.
                if self.ended || self.poll_input(context).is_pending() {
                    return Poll::Pending;
                }
                self.passed_over |= !self.unused.is_empty();
                self.unused = 0..0;
            }
        })
        .await;
    }

    /// Tells the receiver that nothing more comes, if that is possible without waiting. Returns whether it did.
    pub(super) fn shut_down_now(&mut self) -> bool {
        let io = Pin::new(&mut self.io);
        io.poll_shutdown(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    /// Does the same with a time limit, then waits until the receiver closes. Closing a connection with unread input
    /// resets it, and a reset discards what the receiver has not read yet.
    pub(super) async fn linger(mut self) {
        let _ = self.io.shutdown().await;
        let mut left = LINGER_BYTES;
        while let Ok(bytes @ 1..) = self.io.read(&mut self.input).await
            && bytes <= left
        {
            left -= bytes;
        }
    }

    fn unused(&self) -> &[u8] {
        self.input.get(self.unused.clone()).unwrap_or_default()
    }

    /// Reads more input, once all has been used. Zero bytes mean the end.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.unused.is_empty() {
            return Poll::Ready(Ok(self.unused.len()));
        }
        let mut buffer = ReadBuf::new(&mut self.input);
        let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
        let bytes = buffer.filled().len();
        self.unused = 0..bytes;
        self.ended |= read.is_err() || bytes == 0;
        Poll::Ready(read.map(|()| bytes))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) {
        loop {
            let done = match self.sending {
                Sending::Writing => self.poll_write(context),
                Sending::Flushing => Pin::new(&mut self.io).poll_flush(context),
                Sending::Sent | Sending::Broken(_) => return,
            };
            self.sending = match (done, &self.sending) {
                (Poll::Pending, _) => return,
                (Poll::Ready(Ok(())), Sending::Writing) => Sending::Flushing,
                (Poll::Ready(Ok(())), _) => Sending::Sent,
                (Poll::Ready(Err(e)), _) => Sending::Broken(e),
            };
            if !matches!(self.sending, Sending::Flushing) {
                self.body = Bytes::new();
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let head = self.head.get(self.written..).unwrap_or_default();
            let in_body = self.written.saturating_sub(self.head.len());
            let body = self.body.get(in_body..).unwrap_or_default();
            if head.is_empty() && body.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let both = [IoSlice::new(head), IoSlice::new(body)];
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
    }

    /// Returns why the connection ended. An error from writing is more specific than the end of input.
    fn why_ended(&mut self, reading: Option<io::Error>) -> io::Error {
        let writing = match std::mem::replace(&mut self.sending, Sending::Sent) {
            Sending::Broken(e) => Some(e),
            other => {
                self.sending = other;
                None
            }
        };
        reading
            .or(writing)
            .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn take_parts(framing: &mut Framing, input: &mut &[u8], excerpt: &mut Excerpt) -> Option<Read> {
    loop {
        match framing.next(input) {
            Part::Data(data) if excerpt.take(data) => {}
            Part::Data(_) | Part::Broken => return Some(Read::Enough),
            Part::More => return None,
            Part::End => return Some(Read::ToItsEnd),
        }
    }
}

/// Whether this error means that the receiver ended the connection.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

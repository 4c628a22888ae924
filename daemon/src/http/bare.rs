//! A stream that replaces hyper's bare error responses: if hyper can't read a request head, it sends a status and
//! nothing else; this sends a problem with a request id instead.
//!
//! hyper has no hook for this response. It is recognized by its form: a head of 400, 414 or 431 with `content-length:
//! 0` and none of the headers that every response of the daemon has. hyper writes it in one piece and then closes the
//! connection.

use super::front::Front;
use super::problem::{Code, Problem};
use http::HeaderValue;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
pub(super) struct Told<S> {
    stream: S,
    front: Front,
    /// What goes out before anything else.
    instead: Vec<u8>,
    written: usize,
}

impl<S> Told<S> {
    pub(super) fn new(stream: S, front: Front) -> Self {
        Self {
            stream,
            front,
            instead: Vec::new(),
            written: 0,
        }
    }

    /// Reports a bare response as written, and stores its replacement.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        let Some((problem, date)) = of_bare(bytes) else {
            return false;
        };
        self.instead = written(&problem, &self.front.request_id(), &date);
        self.written = 0;
        true
    }
}

/// Returns the bytes of a response that closes the connection. `date` is a header line, or empty.
pub(super) fn written(problem: &Problem, id: &HeaderValue, date: &str) -> Vec<u8> {
    let status = problem.code.status();
    let body = problem.to_json();
    let head = format!(
        "HTTP/1.1 {} {}\r\nconnection: close\r\ncontent-type: application/problem+json\r\nx-request-id: {}\r\ncontent-length: {}\r\n{date}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        id.to_str().unwrap_or_default(),
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Returns the problem that a bare response stands for, and its date line.
fn of_bare(bytes: &[u8]) -> Option<(Problem, String)> {
    /// hyper's own responses are shorter.
    const LONGEST: usize = 256;
    if bytes.len() > LONGEST {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?;
    let problem = match status {
        "400" => Problem::new(
            Code::InvalidRequest,
            "Malformed HTTP/1.1 request. Check its first line, its headers, and content-length and transfer-encoding.",
        ),
        "414" | "431" => super::front::too_large_headers(),
        _ => return None,
    };
    let (mut date, mut empty) = (String::new(), false);
    for line in lines {
        match line.split_once(": ") {
            Some(("content-length", "0")) => empty = true,
            Some(("connection", "close")) => {}
            Some(("date", _)) => date = format!("{line}\r\n"),
            _ => return None,
        }
    }
    empty.then_some((problem, date))
}

impl<S: AsyncWrite + Unpin> Told<S> {
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.instead.get(self.written..).filter(|r| !r.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        let mut full = slices.iter().filter(|slice| !slice.is_empty());
        if let (Some(only), None) = (full.next(), full.next())
            && self.replaces(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_answer_is_told_from_one_of_ours() {
        let bare = |text: &str| of_bare(text.as_bytes()).map(|(problem, _)| problem.code);
        let date = "date: Fri, 02 Jan 2026 03:04:05 GMT\r\n";
        for (status, code) in [
            ("400 Bad Request", Code::InvalidRequest),
            ("414 URI Too Long", Code::HeadersTooLarge),
            ("431 Request Header Fields Too Large", Code::HeadersTooLarge),
        ] {
            let text = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n{date}\r\n"
            );
            assert_eq!(bare(&text), Some(code), "{status}");
        }
        for ours in [
            "HTTP/1.1 400 Bad Request\r\nx-request-id: req_1\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "",
        ] {
            assert_eq!(bare(ours), None, "{ours}");
        }
    }
}

//! A TLS connection whose errors are plain sentences. HTTP libraries pass them on, some only as text, to the waiting
//! request.

use super::tls_words::{inside, words};
use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The prefix of the words, by which they are found again.
const MARK: &str = "TLS: ";

/// See the module.
pub(super) struct Secured {
    stream: TlsStream<TcpStream>,
    /// Whether a client certificate was there to present: a server may refuse it only after the handshake.
    presents: bool,
}

impl Secured {
    pub(super) fn new(stream: TlsStream<TcpStream>, presents: bool) -> Self {
        Self { stream, presents }
    }

    fn plain(&self, error: io::Error) -> io::Error {
        match inside(&error) {
            Some(tls) => {
                let words = words(tls, self.presents);
                io::Error::new(error.kind(), format!("{MARK}{words}"))
            }
            None => error,
        }
    }
}

/// Returns the words of the TLS error inside this one.
pub(super) fn told(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    // Chains are short; a circular one would end here.
    for _ in 0..16 {
        let error = next?;
        if let Some((_, words)) = error.to_string().split_once(MARK) {
            return Some(words.to_owned());
        }
        next = error.source();
    }
    None
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        read.map_err(|error| self.plain(error))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        written.map_err(|error| self.plain(error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        flushed.map_err(|error| self.plain(error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        shut.map_err(|error| self.plain(error))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        written.map_err(|error| self.plain(error))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

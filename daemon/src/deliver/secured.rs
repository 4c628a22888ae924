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
pub(super) struct Secured(pub(super) TlsStream<TcpStream>);

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

fn plain(error: io::Error) -> io::Error {
    match inside(&error) {
        Some(tls) => io::Error::new(error.kind(), format!("{MARK}{}", words(tls))),
        None => error,
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        read.map_err(plain)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, bytes);
        written.map_err(plain)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context).map_err(plain)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context).map_err(plain)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(context, slices);
        written.map_err(plain)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

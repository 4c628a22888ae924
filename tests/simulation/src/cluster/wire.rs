//! A connection between a daemon and the database: bytes in both directions, delivered when the run says so.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
struct State {
    sent: Vec<u8>,
    /// How much may be sent until it is taken.
    room_bytes: usize,
    received: VecDeque<u8>,
    /// The daemon has closed it, or ended.
    is_gone: bool,
    is_cut: bool,
    waker: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Wire(Arc<Mutex<State>>);

/// The other end.
#[derive(Debug)]
pub(crate) struct Line(Arc<Mutex<State>>);

/// Returns both ends of a connection.
pub(crate) fn connect(room_bytes: usize) -> (Wire, Line) {
    let state = State {
        room_bytes,
        ..State::default()
    };
    let state = Arc::new(Mutex::new(state));
    (Wire(Arc::clone(&state)), Line(state))
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Takes what the daemon has sent.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut state = locked(&self.0);
        let sent = std::mem::take(&mut state.sent);
        if !sent.is_empty() {
            state.wake();
        }
        sent
    }

    pub(crate) fn deliver(&self, bytes: &[u8]) {
        let mut state = locked(&self.0);
        state.received.extend(bytes);
        state.wake();
    }

    /// The daemon learns that the connection is closed.
    pub(crate) fn cut(&self) {
        let mut state = locked(&self.0);
        state.is_cut = true;
        state.wake();
    }

    pub(crate) fn is_gone(&self) -> bool {
        locked(&self.0).is_gone
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        locked(&self.0).is_gone = true;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = locked(&self.0);
        if state.received.is_empty() && !state.is_cut {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.remaining().min(state.received.len());
        let bytes: Vec<u8> = state.received.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = locked(&self.0);
        if state.is_cut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = state.room_bytes.saturating_sub(state.sent.len());
        if room == 0 {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        state.sent.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

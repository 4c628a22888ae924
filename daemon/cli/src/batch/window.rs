//! The lines that have no answer yet, in the order of the input. It decides what goes into a stream next, and which line an answer is
//! about; it sends nothing itself.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::source::Line;

/// What may wait for an answer: the daemon reads on up to 2,048 lines, and some more are on their way.
const WINDOW_LINES: usize = 4_096;
const WINDOW_BYTES: usize = 8 << 20;
/// About how much leaves in one piece.
const FRAME_BYTES: usize = 64 * 1024;

/// A line that has no answer yet.
struct Waiting {
    line: Line,
    /// Its number in the stream that is open.
    in_stream: u64,
    /// It fits only without the key that was added, which then goes into a header.
    alone: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Window {
    /// The first `sent` of them are in the stream that is open.
    lines: VecDeque<Waiting>,
    bytes: usize,
    sent: usize,
    /// How many lines the stream that is open holds, those included that have their answer.
    in_stream: u64,
}

impl Window {
    pub(super) fn push(&mut self, line: Line) {
        self.bytes += line.bytes.len();
        self.lines.push_back(Waiting {
            line,
            in_stream: 0,
            alone: false,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.lines.len() < WINDOW_LINES && self.bytes < WINDOW_BYTES
    }

    /// Begins a stream: all lines are to be sent in it.
    pub(super) fn open_stream(&mut self) {
        self.sent = 0;
        self.in_stream = 0;
    }

    /// Whether every line is in the stream that is open.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.lines.len()
    }

    /// What goes into the stream next, in one piece.
    pub(super) fn next_frame(&mut self) -> Bytes {
        let mut frame = BytesMut::new();
        while let Some(waiting) = self.lines.get_mut(self.sent) {
            self.in_stream += 1;
            waiting.in_stream = self.in_stream;
            self.sent += 1;
            frame.extend_from_slice(&waiting.line.bytes);
            if frame.len() >= FRAME_BYTES {
                break;
            }
        }
        frame.freeze()
    }

    /// The place of the line with this number in the stream that is open.
    pub(super) fn place_of(&self, in_stream: u64) -> Option<usize> {
        // Answers come in the order of the lines: it is nearly always the first.
        let mut sent = self.lines.iter().take(self.sent);
        sent.position(|waiting| waiting.in_stream == in_stream)
    }

    /// The line at this place.
    pub(super) fn line(&self, place: usize) -> Option<&Line> {
        self.lines.get(place).map(|waiting| &waiting.line)
    }

    /// Has a line sent as an event of its own, where the key that was added to it may be what makes it too large. False where that
    /// can't help, or was tried.
    pub(super) fn send_alone(&mut self, place: usize) -> bool {
        let Some(waiting) = self.lines.get_mut(place) else {
            return false;
        };
        let helps = waiting.line.added.is_some() && !waiting.alone;
        waiting.alone |= helps;
        helps
    }

    /// The first line to be sent as an event of its own.
    pub(super) fn next_alone(&self) -> Option<usize> {
        self.lines.iter().position(|waiting| waiting.alone)
    }

    /// Takes out a line that has its answer.
    pub(super) fn remove(&mut self, place: usize) -> Option<Line> {
        let waiting = self.lines.remove(place)?;
        self.bytes -= waiting.line.bytes.len();
        if place < self.sent {
            self.sent -= 1;
        }
        Some(waiting.line)
    }
}

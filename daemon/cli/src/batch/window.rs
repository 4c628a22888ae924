//! The lines without a result, in the order of the input. Decides what goes into a stream next, and which line a result
//! is about; sends nothing itself.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::source::Line;

/// How many lines may wait for a result: the daemon reads up to 2,048 lines ahead, and some more are in transit.
const WINDOW_LINES: usize = 4_096;
const WINDOW_BYTES: usize = 8 << 20;
/// The approximate size of one piece.
const FRAME_BYTES: usize = 64 * 1024;

/// A line without a result.
struct Waiting {
    line: Line,
    /// Its number in the open stream.
    in_stream: u64,
    /// Whether it fits only without the added key, which then goes into a header.
    alone: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Window {
    /// The first `sent` of them are in the open stream.
    lines: VecDeque<Waiting>,
    bytes: usize,
    sent: usize,
    /// The number of lines in the open stream, including those that have a result.
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

    /// Starts a stream: all lines must be sent in it.
    pub(super) fn open_stream(&mut self) {
        self.sent = 0;
        self.in_stream = 0;
    }

    /// Whether every line is in the open stream.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.lines.len()
    }

    /// Returns the next piece for the stream.
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

    /// Returns the place of the line with this number in the open stream.
    pub(super) fn place_of(&self, in_stream: u64) -> Option<usize> {
        // Results come in the order of the lines: it is nearly always the first.
        let mut sent = self.lines.iter().take(self.sent);
        sent.position(|waiting| waiting.in_stream == in_stream)
    }

    /// Returns the line at this place.
    pub(super) fn line(&self, place: usize) -> Option<&Line> {
        self.lines.get(place).map(|waiting| &waiting.line)
    }

    /// Marks a line to be sent as a single event, if the added key may be what makes it too large. Returns false if
    /// that can't help or has been tried.
    pub(super) fn send_alone(&mut self, place: usize) -> bool {
        let Some(waiting) = self.lines.get_mut(place) else {
            return false;
        };
        let helps = waiting.line.added.is_some() && !waiting.alone;
        waiting.alone |= helps;
        helps
    }

    /// Returns the first line to be sent as a single event.
    pub(super) fn next_alone(&self) -> Option<usize> {
        self.lines.iter().position(|waiting| waiting.alone)
    }

    /// Removes a line that has its result.
    pub(super) fn remove(&mut self, place: usize) -> Option<Line> {
        let waiting = self.lines.remove(place)?;
        self.bytes -= waiting.line.bytes.len();
        if place < self.sent {
            self.sent -= 1;
        }
        Some(waiting.line)
    }
}

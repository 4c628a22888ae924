//! Shows the progress of a stream of events, only if stderr is a terminal. It counts what the daemon has answered:
//! bytes that were sent are in buffers, and a full bar over lines that nobody has read would be wrong.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::Tally;

/// What is known of a stream while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    /// Bytes read so far.
    pub(crate) bytes: u64,
    /// Non-blank lines read so far.
    pub(crate) lines: u64,
    /// Whether all of it has been read.
    pub(crate) ended: bool,
}

/// Returns the expected number of lines in a stream of `size` bytes: counted once all is read, estimated from its first
/// part until then.
fn expected_lines(size: u64, read: Read) -> u64 {
    if read.ended || read.bytes == 0 {
        return read.lines;
    }
    let whole = u128::from(read.lines) * u128::from(size) / u128::from(read.bytes);
    // A file may grow while it is read.
    u64::try_from(whole).unwrap_or(u64::MAX).max(read.lines)
}

/// A bar if the size is known, otherwise a running count; nothing if stderr isn't a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    size: Option<u64>,
}

impl Progress {
    /// Starts it; `size` is the number of bytes to send, if known.
    pub(crate) fn start(size: Option<u64>) -> Self {
        let (bar, template) = match size {
            Some(_) => (
                // Not of length 0, which would be a full bar before the first result.
                ProgressBar::no_length(),
                "{spinner} {bar:32} {percent:>3}%  {msg}  {elapsed}, {eta} to go",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
        };
        style(&bar, template);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, size }
    }

    /// Shows the current progress.
    pub(crate) fn show(&self, read: Read, tally: &Tally) {
        if let Some(size) = self.size {
            self.bar.set_length(expected_lines(size, read));
        }
        self.bar.set_position(tally.answered());
        self.bar.set_message(tally.to_string());
    }

    /// Prints something else to the same terminal.
    pub(crate) fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Removes it from the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The progress of a copy: the daemon makes it, then its bytes arrive, then it is checked.
#[derive(Debug)]
pub(crate) struct Copied(ProgressBar);

impl Copied {
    /// Starts while the daemon makes the copy.
    pub(crate) fn start() -> Self {
        let bar = ProgressBar::new_spinner();
        style(&bar, "{spinner} {msg}  {elapsed}");
        bar.set_message("copying the store");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Sets the number of bytes to come.
    pub(crate) fn of(&self, bytes: u64) {
        style(
            &self.0,
            "{spinner} {bar:32} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {elapsed}, {eta} to go",
        );
        self.0.set_length(bytes);
    }

    /// Shows the number of bytes that have arrived.
    pub(crate) fn show(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Shows that the copy is being checked.
    pub(crate) fn checking(&self) {
        style(&self.0, "{spinner} {msg}  {elapsed}");
        self.0.set_message("checking the copy");
    }

    /// Removes it from the screen.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The progress of a move: how many items have been written.
#[derive(Debug, Clone)]
pub(crate) struct Counted(ProgressBar);

impl Counted {
    /// Starts with what is done.
    pub(crate) fn start(doing: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        style(
            &bar,
            "{spinner} {msg}: {human_pos} items, {per_sec}  {elapsed}",
        );
        bar.set_message(doing);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Adds items.
    pub(crate) fn add(&self, items: u64) {
        self.0.inc(items);
    }

    /// Removes it from the screen.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: u64, lines: u64, ended: bool) -> Read {
        Read {
            bytes,
            lines,
            ended,
        }
    }

    #[test]
    fn lines_are_estimated_until_all_are_counted() {
        assert_eq!(expected_lines(1_000, read(100, 10, false)), 100);
        assert_eq!(expected_lines(1_000, read(1_000, 93, true)), 93);
        assert_eq!(expected_lines(1_000, read(2_000, 40, false)), 40);
        assert_eq!(expected_lines(1_000, read(0, 0, false)), 0);
        assert_eq!(expected_lines(u64::MAX, read(1, u64::MAX, false)), u64::MAX);
    }

    #[test]
    fn the_bar_follows_the_answers_and_not_what_was_handed_over() {
        let progress = Progress::start(Some(1_000));
        assert_eq!(progress.bar.length(), None);
        let tally = Tally {
            accepted: 2,
            replayed: 1,
            rejected: 1,
            deliveries: 2,
        };
        progress.show(read(1_000, 8, true), &tally);
        assert_eq!(progress.bar.position(), 4);
        assert_eq!(progress.bar.length(), Some(8));
    }
}

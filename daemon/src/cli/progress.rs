//! How far a stream of events has come, on a terminal's stderr only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::batch::Tally;

/// A bar where the size is known, a running count where not, nothing where stderr isn't a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Starts it; `bytes` is the size of what is sent, if that is known.
    pub(crate) fn start(bytes: Option<u64>) -> Self {
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{spinner} {bar:32} {percent:>3}%  {msg}  {elapsed}, {eta} to go",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {binary_bytes}  {msg}  {elapsed}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Shows where things stand.
    pub(crate) fn show(&self, bytes_read: u64, tally: &Tally) {
        self.bar.set_position(bytes_read);
        self.bar.set_message(tally.to_string());
    }

    /// Runs something that prints to the same terminal.
    pub(crate) fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Takes it off the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

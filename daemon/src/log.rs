//! The log on stderr. It never blocks the daemon: lines go through a bounded queue to a thread that writes them. If
//! stderr isn't read, lines are dropped and counted; the count is logged when writing resumes.

use crate::config::{Config, LogFormat};
use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// The maximum number of queued lines.
const LINES: usize = 4_096;

/// Changes the level that is logged.
type Level = reload::Handle<LevelFilter, tracing_subscriber::Registry>;

/// The log, while it is being written.
pub(crate) struct Log {
    level: Level,
    /// Writes the queued lines, within a time limit, when it is dropped.
    writing: Option<WorkerGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let writing = self.writing.take();
        // If stderr isn't read, the logger reports that on stdout, and panics if stdout is closed; the daemon must not
        // end because of that.
        let _unsaid = catch_unwind(AssertUnwindSafe(|| drop(writing)));
    }
}

impl Log {
    /// Starts the log and reports panics through it: otherwise a panic would wait until stderr is read.
    pub(crate) fn start(config: &Config) -> Self {
        let dropped = Arc::new(OnceLock::new());
        let stderr = Reporting {
            to: io::stderr(),
            dropped: Arc::clone(&dropped),
            reported: 0,
        };
        let (writer, writing) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES)
            .lossy(true)
            .thread_name("stormhook-log")
            .finish(stderr);
        let _once = dropped.set(writer.error_counter());
        let (filter, level) = reload::Layer::new(LevelFilter::from_level(config.log.level));
        let registry = tracing_subscriber::registry().with(filter);
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(io::stderr().is_terminal());
        // A program that embeds the daemon may have its own log.
        let ours = match config.log.format {
            LogFormat::Text => registry.with(layer).try_init(),
            LogFormat::Json => registry.with(layer.json()).try_init(),
        };
        if ours.is_ok() {
            std::panic::set_hook(Box::new(|panic| {
                let backtrace = std::backtrace::Backtrace::capture();
                tracing::error!(%panic, %backtrace, "a defect");
            }));
        }
        Self {
            level,
            writing: Some(writing),
        }
    }

    pub(crate) fn set_level(&self, new: tracing::Level) {
        let _gone = self
            .level
            .modify(|level| *level = LevelFilter::from_level(new));
    }
}

/// Reports how many lines were dropped, once one could be written again.
struct Reporting<W> {
    to: W,
    dropped: Arc<OnceLock<ErrorCounter>>,
    reported: usize,
}

impl<W: Write> Write for Reporting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.to.write(line)?;
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        if dropped > self.reported {
            // It is queued like any line. If it is dropped too, it is counted and reported again.
            let more = dropped - self.reported;
            self.reported = dropped;
            tracing::warn!(
                lines = more,
                "log lines were dropped because stderr was not read"
            );
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Writes a line only when told to, and passes it on.
    struct Held {
        go_on: Receiver<()>,
        lines: Sender<String>,
    }

    impl Write for Held {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _gone = self.go_on.recv();
            let _gone = self.lines.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_found_no_room_are_counted_and_the_count_is_logged() {
        let (go_on, wait) = channel();
        let (lines, written) = channel();
        let dropped = Arc::new(OnceLock::new());
        let held = Held { go_on: wait, lines };
        let reporting = Reporting {
            to: held,
            dropped: Arc::clone(&dropped),
            reported: 0,
        };
        let (writer, writing) = NonBlockingBuilder::default()
            .buffered_lines_limit(4)
            .finish(reporting);
        let _once = dropped.set(writer.error_counter());
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(writer);
        let subscriber = tracing_subscriber::registry().with(layer);
        // The writing thread has no default of its own: it logs through the global one.
        tracing::subscriber::set_global_default(subscriber).unwrap();
        for n in 0..100 {
            tracing::info!(n, "a line");
        }
        for _ in 0..20 {
            go_on.send(()).unwrap();
        }
        let said = written.iter().find(|line| line.contains("were dropped"));
        assert!(said.unwrap().contains("lines="));
        drop(go_on);
        drop(writing);
    }
}

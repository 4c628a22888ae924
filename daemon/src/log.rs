//! The log on stderr. An event is one line, which text of others can neither end nor reorder. The log never blocks the
//! daemon: lines go through a bounded queue to a thread that writes them. If stderr isn't read, lines are dropped and
//! counted; the count is logged when writing resumes.

use crate::config::{Config, LogFormat};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use stormhook_engine::text::{is_invisible, plain};
use tracing::field::Field;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
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
        let layer = tracing_subscriber::fmt::layer();
        // A program that embeds the daemon may have its own log.
        let ours = match config.log.format {
            LogFormat::Text => {
                let fields = debug_fn(write_field).delimited(" ");
                let layer = layer.fmt_fields(fields).with_writer(writer);
                let is_terminal = io::stderr().is_terminal();
                registry.with(layer.with_ansi(is_terminal)).try_init()
            }
            LogFormat::Json => {
                let layer = layer.json().with_writer(move || Json(writer.clone()));
                registry.with(layer).try_init()
            }
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

/// Writes a field of a line of text.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = plain(&format!("{value:?}"));
    match field.name() {
        "message" => writer.write_str(&value),
        // What the bridge from the `log` crate adds about the place of the code.
        name if name.starts_with("log.") => Ok(()),
        name => write!(writer, "{}={value}", name.trim_start_matches("r#")),
    }
}

/// Escapes what JSON allows in a string but a terminal obeys, or what hides text. Such a character is only ever inside a
/// string.
struct Json<W>(W);

impl<W: Write> Write for Json<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_bad = |c: char| (c.is_control() && c != '\n') || is_invisible(c);
        match std::str::from_utf8(line) {
            Ok(text) if text.contains(is_bad) => {
                let mut escaped = String::with_capacity(text.len() + 16);
                for character in text.chars() {
                    if is_bad(character) {
                        for unit in character.encode_utf16(&mut [0; 2]) {
                            escaped.push_str(&format!("\\u{unit:04x}"));
                        }
                    } else {
                        escaped.push(character);
                    }
                }
                self.0.write_all(escaped.as_bytes())?;
            }
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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

    /// Collects what is written.
    #[derive(Clone, Default)]
    struct Collected(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Collected {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "a\u{1b}[2J\u{9b}m\r\n2026 ERROR forged\u{202e}\u{200b}\u{e0041}\u{7f}b";

    fn logged() {
        let error = io::Error::other(HOSTILE);
        tracing::info!(
            text = HOSTILE,
            shown = %HOSTILE,
            debug = ?HOSTILE,
            error = &error as &(dyn std::error::Error + 'static),
            r#type = 1,
            "message {HOSTILE}"
        );
    }

    #[track_caller]
    fn expect_one_safe_line(collected: &Collected) -> String {
        let bytes = collected.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        let bad = |c: char| c.is_control() || is_invisible(c);
        assert!(!line.contains(bad), "{line:?}");
        line.to_owned()
    }

    #[test]
    fn a_line_of_text_stays_one_line_and_drives_no_terminal() {
        let collected = Collected::default();
        let writer = collected.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, logged);
        let line = expect_one_safe_line(&collected);
        assert!(line.contains(": message a\\u{1b}[2J"), "{line}");
        assert!(
            line.contains(" shown=a\\u{1b}") && line.ends_with(" type=1"),
            "{line}"
        );
    }

    #[test]
    fn a_line_of_json_keeps_its_text_and_drives_no_terminal() {
        let collected = Collected::default();
        let writer = collected.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .with_writer(move || Json(writer.clone()));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, logged);
        let line = expect_one_safe_line(&collected);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["fields"]["text"], HOSTILE);
        assert_eq!(json["fields"]["message"], format!("message {HOSTILE}"));
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

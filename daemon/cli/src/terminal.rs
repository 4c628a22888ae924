//! Output to the terminal: colours, the API's bytes or words for people, and text that can't control the terminal.
//!
//! Strings in responses come from receivers and producers. They are printed for people only after [`plain`] has turned
//! control characters into visible escapes. `--json` is for programs and passes bytes through.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;
use crate::refusal::Words;
pub(crate) use stormhook_engine::text::plain;

/// How long a daemon that failed waits for its error to be read.
const SHOWN_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Unchanged.
    Plain,
    /// A heading.
    Bold,
    /// Secondary.
    Dim,
    /// Success.
    Good,
    /// Not finished yet.
    Warn,
    /// Failure.
    Bad,
}

/// Where output goes and how it may look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Whether to print the API's response, byte for byte.
    pub(crate) json: bool,
    /// Whether stdout is a terminal that can move its cursor.
    pub(crate) terminal: bool,
    /// Whether stdout may have colours.
    pub(crate) colour: bool,
    /// Whether stderr may have colours.
    error_colour: bool,
}

impl Screen {
    /// Returns the screen for the process's streams and environment (`NO_COLOR`, `TERM=dumb`).
    pub(crate) fn for_process(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let capable = std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        let terminal = io::stdout().is_terminal() && capable;
        Self {
            json,
            terminal,
            colour: terminal && wanted && !json,
            error_colour: io::stderr().is_terminal() && capable && wanted,
        }
    }

    /// Returns a screen that is a file or a pipe.
    #[cfg(test)]
    pub(crate) fn piped() -> Self {
        Self {
            json: false,
            terminal: false,
            colour: false,
            error_colour: false,
        }
    }

    /// Paints text for stdout.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colour, tone, text)
    }

    /// Prints one or more lines: for people, or of JSON for programs.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            self.print(text)
        } else {
            self.print(&visible(self.colour, text))
        }
    }

    /// Prints lines for people between what moves the cursor.
    pub(crate) fn draw(&self, before: &str, text: &str, after: &str) -> Result<(), Failure> {
        self.print(&format!("{before}{}{after}", visible(self.colour, text)))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(|error| Failure::output(&error))
    }

    /// Prints bytes unchanged, without adding a newline.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| Failure::output(&error))
    }

    /// Prints the API's response byte for byte, and adds a newline if it has none, so that several responses stay
    /// apart.
    pub(crate) fn answer(&self, body: &[u8]) -> Result<(), Failure> {
        if body.is_empty() {
            return Ok(());
        }
        self.raw(body)?;
        if body.ends_with(b"\n") {
            Ok(())
        } else {
            self.raw(b"\n")
        }
    }

    /// Prints why the daemon failed. If nobody reads stderr, the process ends anyway.
    pub(crate) fn failure_briefly(self, failure: Failure) {
        let (shown, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            self.failure(&failure);
            let _late = shown.send(());
        });
        let _unread = wait.recv_timeout(SHOWN_WITHIN);
    }

    /// Prints a failure: for people on stderr; with `--json` an error response is printed unchanged on stdout.
    pub(crate) fn failure(&self, failure: &Failure) {
        match failure {
            Failure::Shown | Failure::OutputClosed => {}
            Failure::Refused(refusal) if self.json => {
                // If stdout is closed too, only the exit status can report the failure.
                let _ = self.answer(&refusal.body);
            }
            Failure::Refused(refusal) => self.refuse(&refusal.in_words()),
            Failure::No(text) | Failure::Usage(text) | Failure::Unreachable(text) => {
                self.complain(text);
            }
        }
    }

    /// Prints to stderr. A closed stderr doesn't change the exit status. An error of a library may quote text of others.
    pub(crate) fn complain(&self, text: &str) {
        let mark = paint(self.error_colour, Tone::Bad, "error:");
        let _ = writeln!(io::stderr().lock(), "{mark} {}", plain_lines(text));
    }

    /// Prints a refusal to stderr: what is wrong, what identifies it, and what to type.
    pub(crate) fn refuse(&self, words: &Words) {
        self.complain(&words.what);
        self.remark(&format!("       {}", words.which));
        if let Some(hint) = &words.hint {
            let mark = paint(self.error_colour, Tone::Bold, "hint:");
            let _ = writeln!(io::stderr().lock(), "{mark}  {}", plain_lines(hint));
        }
    }

    /// Prints a remark that is not an error to stderr.
    pub(crate) fn remark(&self, text: &str) {
        let _ = writeln!(
            io::stderr().lock(),
            "{}",
            paint(self.error_colour, Tone::Dim, &plain_lines(text))
        );
    }
}

/// Prints what is wrong with the arguments, or the help that was asked for. An argument may be pasted text of others,
/// which the library repeats.
pub(crate) fn explain_usage(error: &clap::Error) {
    let text = error.render().to_string();
    let safe = plain_lines(&text);
    // A closed pipe under `--help | head` is not a failure.
    let _ = if safe == text {
        error.print()
    } else {
        io::stderr().lock().write_all(safe.as_bytes())
    };
}

/// Returns the lines of a text, each as [`plain`] shows it.
fn plain_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(plain).collect();
    lines.join("\n")
}

/// The same, but with colours if there are any: the last guard, wherever a command forgot to clean a text.
fn visible(colour: bool, text: &str) -> String {
    if !colour {
        return plain_lines(text);
    }
    let mut parts = text.split(ESCAPE);
    let mut out = plain_lines(parts.next().unwrap_or_default());
    for part in parts {
        let painted = PAINT.iter().find_map(|code| {
            let rest = part.strip_prefix(code)?;
            Some((code, rest))
        });
        match painted {
            Some((code, rest)) => {
                out.push(ESCAPE);
                out.push_str(code);
                out.push_str(&plain_lines(rest));
            }
            None => out.push_str(&plain_lines(&format!("{ESCAPE}{part}"))),
        }
    }
    out
}

const ESCAPE: char = '\u{1b}';
const RESET: &str = "[0m";
const BOLD: &str = "[1m";
const DIM: &str = "[2m";
const GREEN: &str = "[32m";
const YELLOW: &str = "[33m";
const RED: &str = "[31m";
/// All sequences that [`paint`] uses.
const PAINT: [&str; 6] = [RESET, BOLD, DIM, GREEN, YELLOW, RED];

/// Wraps text in the SGR sequence of a tone (ECMA-48).
pub(crate) fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Bold => BOLD,
        Tone::Dim => DIM,
        Tone::Good => GREEN,
        Tone::Warn => YELLOW,
        Tone::Bad => RED,
    };
    if colour && !text.is_empty() {
        format!("{ESCAPE}{code}{text}{ESCAPE}{RESET}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stormhook_engine::text::is_invisible;

    proptest! {
        #[test]
        fn whatever_is_printed_only_lines_and_our_colours_reach_the_terminal(
            parts in proptest::collection::vec("(?s).{0,8}|\u{1b}\\[[0-9;?]{0,3}[A-Za-z]|[\u{0}-\u{1f}\u{7f}-\u{9f}]", 0..12),
            tone in 0_usize..6,
            colour: bool,
        ) {
            let tones = [Tone::Plain, Tone::Bold, Tone::Dim, Tone::Good, Tone::Warn, Tone::Bad];
            let text = parts.concat();
            let painted = paint(colour, tones[tone], &text);
            let mut shown = visible(colour, &painted);
            if colour {
                for code in PAINT {
                    shown = shown.replace(&format!("{ESCAPE}{code}"), "");
                }
            }
            let bad = |c: char| (c.is_control() && c != '\n') || is_invisible(c);
            prop_assert!(!shown.contains(bad), "{shown:?}");
        }
    }

    #[test]
    fn colours_and_lines_stay_as_they_are() {
        let painted = paint(true, Tone::Good, "a\nb") + " c";
        assert_eq!(visible(true, &painted), painted);
        assert_eq!(visible(false, "a\n b"), "a\n b");
        assert_eq!(visible(true, "a\u{1b}[H\u{1b}"), "a\\u{1b}[H\\u{1b}");
    }

    #[test]
    fn text_from_elsewhere_cannot_drive_the_terminal() {
        assert_eq!(
            plain("a\u{1b}]0;evil\u{7}b\nc"),
            "a\\u{1b}]0;evil\\u{7}b\\nc"
        );
        assert_eq!(plain("a\u{202e}b\u{200b}c"), "a\\u{202e}b\\u{200b}c");
        assert_eq!(plain("grüße 漢字 ✓"), "grüße 漢字 ✓");
    }

    #[test]
    fn an_error_keeps_its_lines_and_nothing_else_that_moves_the_cursor() {
        assert_eq!(
            plain_lines("a\n  b\u{1b}[2J\rc\n"),
            "a\n  b\\u{1b}[2J\\rc\n"
        );
    }

    #[test]
    fn without_colour_text_is_left_alone() {
        assert_eq!(paint(false, Tone::Bad, "x"), "x");
        assert_eq!(paint(true, Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(paint(true, Tone::Bad, ""), "");
    }
}

//! What happens in a run, line by line: for its trace, and for the report of a violation.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many of the last lines a violation shows.
const LINES: usize = 60;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    trace: DefaultHasher,
    last: VecDeque<String>,
    violation: Option<String>,
    /// Whether each line is printed.
    pub(crate) verbose: bool,
}

impl Notes {
    /// Notes what happens at this time.
    pub(crate) fn note(&mut self, now_ms: u64, what: &str) {
        let line = format!("{now_ms:>12} ms  {what}");
        line.hash(&mut self.trace);
        if self.verbose {
            eprintln!("{line}");
        }
        if self.last.len() == LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The contract was violated. Only the first violation counts.
    pub(crate) fn violated(&mut self, now_ms: u64, what: &str) {
        if self.violation.is_none() {
            self.note(now_ms, &format!("VIOLATION: {what}"));
            let last: Vec<_> = self.last.iter().map(String::as_str).collect();
            self.violation = Some(format!("{what}\n\n{}", last.join("\n")));
        }
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Returns a hash of everything that happened, in order.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }
}

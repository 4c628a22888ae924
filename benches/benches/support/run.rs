//! One run of a benchmark, and the ratios between its lines. A line that an earlier run left behind is never compared with one of this run.

use criterion::Criterion;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A folder in the build's, on the disk that holds it.
pub(crate) const ON_DISK: &str = env!("CARGO_TARGET_TMPDIR");

pub(crate) struct Run {
    results: PathBuf,
    started: SystemTime,
}

impl Run {
    #[expect(
        clippy::disallowed_methods,
        reason = "files are told apart by when they were written"
    )]
    pub(crate) fn begin() -> Self {
        Self {
            results: Path::new(ON_DISK).join("criterion"),
            started: SystemTime::now(),
        }
    }

    /// Criterion, told what the command line says.
    pub(crate) fn criterion(&self) -> Criterion {
        Criterion::default()
            .output_directory(&self.results)
            .configure_from_args()
    }

    /// Nanoseconds of `line`, if it was measured in this run.
    fn ns(&self, group: &str, line: &str) -> Option<f64> {
        let file = self
            .results
            .join(group)
            .join(line)
            .join("new/estimates.json");
        let written = fs::metadata(&file).and_then(|data| data.modified()).ok()?;
        if written < self.started {
            return None;
        }
        let estimates: serde_json::Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        estimates.pointer("/median/point_estimate")?.as_f64()
    }

    /// Prints how many times as long as `limit` each of `lines` took.
    pub(crate) fn ratios(&self, group: &str, lines: &[impl AsRef<str>], limit: &str) {
        let Some(limit_ns) = self.ns(group, limit) else {
            return;
        };
        for line in lines.iter().map(AsRef::as_ref) {
            if let Some(ns) = self.ns(group, line) {
                println!("{group}: {line} ÷ {limit} = {:.2}", ns / limit_ns);
            }
        }
    }
}

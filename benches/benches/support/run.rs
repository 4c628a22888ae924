//! One run of a benchmark, and the ratios between its lines. Lines of an earlier run are never compared with those of
//! this one.

use criterion::Criterion;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Returns a folder in the build directory, on the disk of the build.
pub(crate) const ON_DISK: &str = env!("CARGO_TARGET_TMPDIR");

pub(crate) struct Run {
    results: PathBuf,
    started: SystemTime,
}

impl Run {
    #[expect(
        clippy::disallowed_methods,
        reason = "files are identified by the time of their writing"
    )]
    pub(crate) fn begin() -> Self {
        Self {
            results: Path::new(ON_DISK).join("criterion"),
            started: SystemTime::now(),
        }
    }

    /// Returns Criterion, configured by the command line.
    pub(crate) fn criterion(&self) -> Criterion {
        Criterion::default()
            .output_directory(&self.results)
            .configure_from_args()
    }

    /// Returns the nanoseconds of `line`, if it was measured in this run.
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

//! Where the file is, what its bounds are, and how much is done at a time.

use crate::stats::HOUR_MS;
use std::path::PathBuf;

/// Where the file is, what its bounds are, and how much is done at a time.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file.
    pub path: PathBuf,
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// Open deliveries, at most.
    pub pending_limit: u64,
    /// Endpoints of one organization, at most, deleted ones not counted.
    pub endpoints_per_organization: usize,
    /// How long an idempotency key is known, in milliseconds.
    pub idempotency_ttl_ms: u64,
    /// Deliveries or keys in the journal that make it worth folding.
    pub fold_items: usize,
    /// Commits in the journal that make it worth folding, so that start-up reads a bounded number of rows.
    pub fold_commits: u64,
    /// Keys in one row of a generation. What is in the file already keeps its size.
    pub keys_per_block: usize,
}

impl Options {
    /// The store at `path`, with no limit on what it takes, and with the sizes that are meant for work. Tests set smaller ones.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 8 << 20,
            pending_limit: u64::MAX,
            endpoints_per_organization: usize::MAX,
            idempotency_ttl_ms: 24 * HOUR_MS,
            fold_items: 32_768,
            fold_commits: 8_192,
            // 4 KiB.
            keys_per_block: 128,
        }
    }
}

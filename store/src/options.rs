//! The path of the file, its bounds, and the sizes of steps.

use crate::maintenance::RESEALED_PER_STEP;
use crate::sealing::Keys;
use crate::stats::HOUR_MS;
use std::path::PathBuf;
use std::sync::Arc;

/// The path of the file, its bounds, and the sizes of steps.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file.
    pub path: PathBuf,
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// Maximum number of open deliveries.
    pub pending_limit: u64,
    /// Maximum number of endpoints of one organization, without deleted ones.
    pub endpoints_per_organization: usize,
    /// How long an idempotency key is remembered, in milliseconds.
    pub idempotency_ttl_ms: u64,
    /// The keys of its secrets.
    pub keys: Arc<Keys>,
    /// Whether it opens without a key that it needs: to read everything but secrets, and to change no endpoint.
    pub opens_sealed: bool,
    /// How many endpoints are rewritten in one step when secrets get another form.
    pub reseal_step: usize,
    /// The number of deliveries or keys in the journal that triggers a fold.
    pub fold_items: usize,
    /// The number of commits in the journal that triggers a fold, so that startup reads a bounded number of rows.
    pub fold_commits: u64,
    /// Keys in one row of a generation. Existing rows keep their size.
    pub keys_per_block: usize,
}

impl Options {
    /// Returns options for the store at `path`, without limits and with the sizes for production. Tests set smaller
    /// ones.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 8 << 20,
            pending_limit: u64::MAX,
            endpoints_per_organization: usize::MAX,
            idempotency_ttl_ms: 24 * HOUR_MS,
            keys: Arc::default(),
            opens_sealed: false,
            reseal_step: RESEALED_PER_STEP,
            fold_items: 32_768,
            fold_commits: 8_192,
            // 4 KiB.
            keys_per_block: 128,
        }
    }
}

//! Where the database is, and the limits.

use std::time::Duration;

/// Where the database is, and the limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database, as `postgres://user@host/database` or in the form of libpq's key words.
    pub url: String,
    /// The schema that holds the tables.
    pub schema: String,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// Maximum number of open deliveries.
    pub pending_limit: u64,
    /// Maximum number of endpoints of one organization, without deleted ones.
    pub endpoints_per_organization: usize,
    /// How long an idempotency key is remembered, in milliseconds.
    pub idempotency_ttl_ms: u64,
}

impl Options {
    /// Returns options without limits.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "stormhook".to_owned(),
            statement_timeout: Duration::from_secs(30),
            pending_limit: u64::MAX,
            endpoints_per_organization: usize::MAX,
            idempotency_ttl_ms: 24 * 3_600_000,
        }
    }
}

//! When API keys were last used: collected here, and written from time to time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use stormhook_engine::clock;
use stormhook_store::{ApiKey, ApiKeyId, UnixMs};
use tokio::sync::Notify;

/// A use that is known to be so recent is not written again.
const RECENT_MS: u64 = 30_000;
/// How long uses are collected.
const COLLECT: Duration = Duration::from_secs(5);

/// See the module. Holds at most one time for each key.
#[derive(Debug, Default)]
pub(crate) struct ApiKeysUsed {
    at: Mutex<HashMap<ApiKeyId, UnixMs>>,
    some: Notify,
}

impl ApiKeysUsed {
    /// Notes a use.
    pub(crate) fn note(&self, key: &ApiKey, now: UnixMs) {
        let is_recent = |known| now.since_ms(known) < RECENT_MS;
        if key.last_used_at.is_some_and(is_recent) {
            return;
        }
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.insert(key.id, now).is_none() {
            self.some.notify_one();
        }
    }

    /// Waits for uses, collects them for a while, and returns them.
    pub(crate) async fn taken(&self) -> Vec<(ApiKeyId, UnixMs)> {
        self.some.notified().await;
        tokio::time::sleep_until(clock::deadline(COLLECT)).await;
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *at).into_iter().collect()
    }
}

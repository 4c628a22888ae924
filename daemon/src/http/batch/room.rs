//! Room for results that clients have not read yet, over all clients.

use super::Gone;
use std::sync::{Arc, LazyLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Results that clients have not read yet, in bytes, of all clients together,
const ALL_UNTAKEN_BYTES: usize = 64 << 20;
/// except for this much, which each client has to itself.
const OWN_UNTAKEN_BYTES: usize = 64 << 10;

/// Room for results that clients have not read yet.
pub(super) struct Room {
    own: Arc<Semaphore>,
}

/// The room that a result uses until it is read.
pub(super) type Place = OwnedSemaphorePermit;

impl Default for Room {
    fn default() -> Self {
        Self {
            own: Arc::new(Semaphore::new(OWN_UNTAKEN_BYTES)),
        }
    }
}

impl Room {
    /// Returns a place for this many bytes: from the client's own room, or from the shared room if it has some, or from
    /// whichever has room first.
    pub(super) async fn take(&self, bytes: usize) -> Result<Place, Gone> {
        static SHARED: LazyLock<Arc<Semaphore>> =
            LazyLock::new(|| Arc::new(Semaphore::new(ALL_UNTAKEN_BYTES)));
        let bytes = u32::try_from(bytes.min(OWN_UNTAKEN_BYTES)).unwrap_or(u32::MAX);
        for room in [&self.own, &*SHARED] {
            if let Ok(place) = Arc::clone(room).try_acquire_many_owned(bytes) {
                return Ok(place);
            }
        }
        let place = Arc::clone(&self.own).acquire_many_owned(bytes).await;
        place.map_err(|_| Gone)
    }
}

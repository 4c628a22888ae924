//! What all daemons of a run share: the database, the receivers, and the oracle that watches both.

use super::database::Database;
use super::oracle::Oracle;
use super::receivers::Receivers;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
pub(crate) struct Stage {
    pub(crate) database: Database,
    pub(crate) receivers: Receivers,
    pub(crate) oracle: Oracle,
}

/// The stage, for daemons that run in turn.
pub(crate) type Shared = Arc<Mutex<Stage>>;

/// Does something with the stage.
pub(crate) fn with<T>(shared: &Mutex<Stage>, work: impl FnOnce(&mut Stage) -> T) -> T {
    work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

//! What a check of a store found, as the daemon says it and as a stopped store is looked through.

use serde::{Deserialize, Serialize};

/// What a check found, as the API says it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// No damage.
    pub(crate) ok: bool,
    /// Rows looked at.
    pub(crate) rows: u64,
    /// Events found.
    pub(crate) events: u64,
    /// Deliveries found.
    pub(crate) deliveries: u64,
    /// Every damage, named.
    pub(crate) damage: Vec<String>,
}

impl Report {
    /// Of a store that is too damaged to be looked through.
    pub(crate) fn of_damage(what: String) -> Self {
        Self {
            ok: false,
            rows: 0,
            events: 0,
            deliveries: 0,
            damage: vec![what],
        }
    }
}

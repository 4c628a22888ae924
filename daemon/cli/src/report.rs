//! The findings of a check, as the daemon returns them and as a stopped store is checked.

use serde::{Deserialize, Serialize};

/// The findings of a check, as in the API.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Whether there is no damage.
    pub(crate) ok: bool,
    /// The number of rows checked.
    pub(crate) rows: u64,
    /// The number of events found.
    pub(crate) events: u64,
    /// The number of deliveries found.
    pub(crate) deliveries: u64,
    /// All damage, each with its place.
    pub(crate) damage: Vec<String>,
    /// The id of the key that secrets are encrypted with.
    #[serde(default)]
    pub(crate) secrets_key_id: Option<String>,
}

impl Report {
    /// The report of a store that is too damaged to be checked.
    pub(crate) fn of_damage(what: String) -> Self {
        Self {
            ok: false,
            rows: 0,
            events: 0,
            deliveries: 0,
            damage: vec![what],
            secrets_key_id: None,
        }
    }
}

//! In which form secrets are kept, and with which keys.

use super::Reader;
use crate::sealing::{AtRest, Form, Key};
use std::sync::Arc;

impl Reader {
    /// Returns in which form secrets are kept.
    pub fn at_rest(&self) -> AtRest {
        self.shared.memory().meta.at_rest
    }

    /// Returns how many endpoints still have the form before.
    pub fn count_to_reseal(&self) -> usize {
        self.shared.memory().to_reseal.len()
    }

    /// Returns the form that secrets are to be brought to: one that was begun, or that of the keys.
    pub fn form_wanted(&self) -> Option<Form> {
        let keys = Arc::clone(&self.shared.options().keys);
        self.at_rest().next(&keys)
    }

    /// Adds a key that secrets may be encrypted with.
    pub fn add_key(&self, key: Key) {
        self.shared.add_key(key);
    }
}

//! Ends deliveries that can't be attempted, or whose outcome can't be recorded, because their stored record is damaged.

use super::{Batch, IndexedState, Storage};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::maintenance::EndDamaged;
use crate::op::Change;

impl<S: Storage> Batch<'_, S> {
    /// No attempt is recorded or counted, because none was made. In every case the delivery is no longer queued.
    pub(super) fn end_damaged(
        &mut self,
        end: EndDamaged,
    ) -> Result<Option<Box<Delivery>>, StoreError> {
        let id = end.delivery;
        let found = match self.delivery(id) {
            Err(StoreError::Damaged { .. }) => None,
            found => found?,
        };
        match found {
            Some(mut d) if d.status.is_open() => {
                let before = IndexedState::of(&d);
                d.found_damaged(self.now)?;
                self.put_delivery(Some(before), &mut d)?;
                Ok(Some(Box::new(d)))
            }
            // It has ended in another way meanwhile.
            Some(_) => {
                self.changes.push(Change::Ended(id));
                Ok(None)
            }
            // Its remains stay for `check` to name. An entry in the due index would return at every start.
            None => {
                if self.storage.remove_from_queue(id, end.due)? {
                    self.open = self.open.saturating_sub(1);
                }
                self.changes.push(Change::Ended(id));
                Ok(None)
            }
        }
    }
}

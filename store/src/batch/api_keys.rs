//! API keys: creation, revocation, and when they were last used.

use super::{Batch, Decision, Storage, refused};
use crate::api_key::{ApiKey, MAX_API_KEYS};
use crate::command::{CreateApiKey, Refusal, RevokeApiKey};
use crate::error::StoreError;
use crate::ids::ApiKeyId;
use crate::maintenance::TouchApiKeys;

impl<S: Storage> Batch<'_, S> {
    pub(super) fn create_api_key(&mut self, create: &CreateApiKey) -> Decision<Box<ApiKey>> {
        if self.storage.api_key_count() + self.api_keys.len() >= MAX_API_KEYS {
            return refused(Refusal::TooManyApiKeys);
        }
        let key = ApiKey {
            created_at: self.now,
            ..(*create.0).clone()
        };
        self.api_keys.insert(key.id, key.clone());
        Ok(Ok(Box::new(key)))
    }

    pub(super) fn revoke_api_key(&mut self, revoke: RevokeApiKey) -> Decision<Box<ApiKey>> {
        let Some(mut key) = self.api_key(revoke.0)? else {
            return refused(Refusal::NotFound);
        };
        if key.revoked_at.is_none() {
            key.revoked_at = Some(self.now);
            self.api_keys.insert(key.id, key.clone());
        }
        Ok(Ok(Box::new(key)))
    }

    pub(super) fn touch_api_keys(&mut self, touch: &TouchApiKeys) -> Result<(), StoreError> {
        for (id, at) in &touch.0 {
            // It may have been removed since it was used.
            if let Some(mut key) = self.api_key(*id)? {
                key.last_used_at = key.last_used_at.max(Some(*at));
                self.api_keys.insert(key.id, key);
            }
        }
        Ok(())
    }

    /// Returns an API key as the batch has left it so far.
    pub(super) fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        match self.api_keys.get(&id) {
            Some(key) => Ok(Some(key.clone())),
            None => self.storage.api_key(id),
        }
    }
}

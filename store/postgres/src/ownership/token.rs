//! The token of callers over TCP, which all daemons on the database share: its digest is in the database.

use super::Cluster;
use crate::link::failed;
use stormhook_store::StoreError;
use tokio_postgres::types::Type;

impl Cluster {
    /// Returns the SHA-256 digest of the token of callers over TCP, as it was last seen.
    #[must_use]
    pub fn admin_token_digest(&self) -> Option<Vec<u8>> {
        self.view.borrow().admin_token_digest.clone()
    }

    /// Stores the digest of a token, unless there is one. Returns the one that counts.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn offer_admin_token(&self, digest: &[u8]) -> Result<Vec<u8>, StoreError> {
        let link = self.shared.link().await?;
        let sql = "UPDATE @.meta SET admin_token_digest = $1 WHERE admin_token_digest IS NULL";
        let statement = link.prepare(sql, &[Type::BYTEA]).await?;
        let offered = link.client.execute(&statement, &[&digest]).await;
        offered.map_err(|e| failed(&e))?;
        self.look().await?;
        Ok(self.admin_token_digest().unwrap_or_default())
    }

    /// Stores the digest of a token in place of the one there is.
    ///
    /// # Errors
    /// The database refuses, or doesn't say whether it stored it.
    pub async fn replace_admin_token(&self, digest: &[u8]) -> Result<(), StoreError> {
        let link = self.shared.link().await?;
        let sql = "UPDATE @.meta SET admin_token_digest = $1";
        let statement = link.prepare(sql, &[Type::BYTEA]).await?;
        let replaced = link.client.execute(&statement, &[&digest]).await;
        replaced.map_err(|e| failed(&e))?;
        self.look().await
    }
}

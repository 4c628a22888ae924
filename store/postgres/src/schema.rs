//! Makes the tables, and says when they are of another version.

use crate::link::{Link, failed};
use stormhook_store::StoreError;
use tokio_postgres::error::SqlState;

/// The version of the schema that this version makes and reads.
pub const VERSION: i32 = 1;

const CREATE: &str = include_str!("schema.sql");

/// Returns the version of the schema; `None` if there is none.
pub(crate) async fn version(link: &Link) -> Result<Option<i32>, StoreError> {
    let sql = link.sql("SELECT version FROM @.meta");
    match link.client.query_one(&sql, &[]).await {
        Ok(row) => Ok(Some(crate::convert::column(&row, 0)?)),
        Err(error) => match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(None),
            _ => Err(failed(&error)),
        },
    }
}

/// Makes the tables if there are none.
///
/// # Errors
/// The database refuses, or its schema is of a newer version.
pub async fn migrate(options: &crate::Options) -> Result<(), StoreError> {
    let link = Link::open(options).await?;
    match version(&link).await? {
        Some(found) => expect(found),
        None => {
            let sql = link.sql(&format!("BEGIN; {CREATE} COMMIT"));
            let made = link.client.batch_execute(&sql).await;
            made.map_err(|e| failed(&e))
        }
    }
}

/// Checks that the schema can be used by this version.
pub(crate) fn expect(found: i32) -> Result<(), StoreError> {
    match found {
        VERSION => Ok(()),
        newer => Err(StoreError::Newer {
            what: "the schema of the database".to_owned(),
            found: u32::try_from(newer).unwrap_or(u32::MAX),
            known: u32::try_from(VERSION).unwrap_or(0),
        }),
    }
}

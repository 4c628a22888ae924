//! The outbox, which can also be installed by itself, in a database that holds nothing else.

use super::LOCK;
use crate::convert::column;
use crate::link::{Link, failed};
use stormhook_store::StoreError;
use tokio_postgres::error::SqlState;

/// The version of the outbox that this version takes events from.
const VERSION: i32 = 1;
/// Makes its tables and functions.
pub(super) const SQL: &str = include_str!("outbox.sql");

/// Installs the outbox by itself, and returns what was done.
///
/// # Errors
/// The database refuses.
pub async fn install(options: &crate::Options) -> Result<Vec<String>, StoreError> {
    let link = Link::open(options).await?;
    if version(&link).await? >= Some(VERSION) {
        return Ok(Vec::new());
    }
    let sql = link.sql(&format!(
        "BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {SQL} COMMIT"
    ));
    let installed = link.client.batch_execute(&sql).await;
    installed.map_err(|e| failed(&e))?;
    Ok(vec![format!("outbox version {}", VERSION)])
}

/// Returns what [`install`] would do.
///
/// # Errors
/// The database refuses.
pub async fn pending(options: &crate::Options) -> Result<Vec<String>, StoreError> {
    let link = Link::open(options).await?;
    if version(&link).await? >= Some(VERSION) {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "outbox version {} is missing: run `stormhook migrate --outbox-only`",
        VERSION
    )])
}

/// Checks that the database has an outbox that this version can take events from.
pub(crate) async fn expect(link: &Link) -> Result<(), StoreError> {
    match version(link).await? {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => Err(StoreError::Newer {
            what: "the outbox".to_owned(),
            found: u32::try_from(found).unwrap_or(u32::MAX),
            known: u32::try_from(VERSION).unwrap_or(0),
        }),
        _ => {
            let what = "it has no outbox of this version: run `stormhook migrate --outbox-only`";
            Err(StoreError::Database(what.to_owned()))
        }
    }
}

/// Returns the version of the outbox, if there is one.
async fn version(link: &Link) -> Result<Option<i32>, StoreError> {
    let sql = link.sql("SELECT version FROM @.outbox_settings");
    match link.client.query_opt(&sql, &[]).await {
        Ok(row) => row.map(|row| column(&row, 0)).transpose(),
        Err(error) => match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(None),
            _ => Err(failed(&error)),
        },
    }
}

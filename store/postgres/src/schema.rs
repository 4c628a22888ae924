//! The versions of the schema: makes the tables, changes those of an earlier version, and says what is to do.

pub(crate) mod outbox;

use crate::link::{Link, failed};
use stormhook_store::StoreError;
use tokio_postgres::error::SqlState;

/// The steps, each from the version before it.
const STEPS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    outbox::SQL,
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
];

/// The version of the schema that this version makes and reads.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "there are a few steps"
)]
pub const VERSION: i32 = STEPS.len() as i32;

/// The key of the lock that keeps two migrations apart. It lasts as long as the transaction.
pub(crate) const LOCK: i64 = 0x7374_6F72_6D68_6B00;

/// Returns the version of the schema; 0 if there is none.
async fn version(link: &Link) -> Result<i32, StoreError> {
    let sql = link.sql("SELECT version FROM @.meta");
    match link.client.query_one(&sql, &[]).await {
        Ok(row) => crate::convert::column(&row, 0),
        Err(error) => match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(0),
            _ => Err(failed(&error)),
        },
    }
}

/// Makes the tables, or changes those of an earlier version, one step in each transaction. Returns what was done.
///
/// # Errors
/// The database refuses, or its schema is of a newer version.
pub async fn migrate(options: &crate::Options) -> Result<Vec<String>, StoreError> {
    let link = Link::open(options).await?;
    let mut done = Vec::new();
    loop {
        let found = version(&link).await?;
        let Some(step) = next_step(found)? else {
            break;
        };
        let made = link.in_transaction(make(&link, found, step)).await?;
        // Otherwise another process made it.
        if made.is_some() {
            done.push(format!("schema version {}", found + 1));
        }
    }
    Ok(done)
}

/// Makes a step, unless another process does at the same time: that one is waited for, and then the version is another.
async fn make(link: &Link, found: i32, step: &str) -> Result<Option<()>, StoreError> {
    let lock = format!("SELECT pg_advisory_xact_lock({LOCK})");
    let locked = link.client.batch_execute(&lock).await;
    locked.map_err(|e| failed(&e))?;
    let table = link.sql("SELECT to_regclass('@.meta') IS NULL");
    let row = link.client.query_one(&table, &[]).await;
    let is_new: bool = crate::convert::column(&row.map_err(|e| failed(&e))?, 0)?;
    let now = if is_new { 0 } else { version(link).await? };
    if now != found {
        return Ok(None);
    }
    let to = found + 1;
    let sql = link.sql(&format!("{step} UPDATE @.meta SET version = {to}"));
    let made = link.client.batch_execute(&sql).await;
    made.map_err(|e| failed(&e)).map(Some)
}

/// Returns what `migrate` would do, and indexes that are invalid.
///
/// # Errors
/// The database refuses, or its schema is of a newer version.
pub async fn pending(options: &crate::Options) -> Result<Vec<String>, StoreError> {
    let link = Link::open(options).await?;
    let found = version(&link).await?;
    next_step(found)?;
    let mut pending: Vec<String> = (found + 1..=VERSION)
        .map(|to| format!("schema version {to} is missing: run `stormhook migrate`"))
        .collect();
    let sql = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND NOT i.indisvalid";
    let invalid = link.client.query(sql, &[&options.schema]).await;
    for row in invalid.map_err(|e| failed(&e))? {
        let name: String = crate::convert::column(&row, 0)?;
        pending.push(format!(
            "the index {}.{name} is invalid: run `REINDEX INDEX CONCURRENTLY {}.{name}`",
            options.schema, options.schema
        ));
    }
    Ok(pending)
}

/// Checks that this version can use the schema.
pub(crate) async fn expect(link: &Link) -> Result<(), StoreError> {
    let found = version(link).await?;
    match next_step(found)? {
        None => Ok(()),
        Some(_) if found == 0 => {
            let what = "it has no tables of stormhook: run `stormhook migrate`";
            Err(StoreError::Database(what.to_owned()))
        }
        Some(_) => Err(StoreError::Database(format!(
            "its schema has version {found}, this stormhook needs {VERSION}: run `stormhook migrate`"
        ))),
    }
}

/// Returns the step after this version; `None` if it is the newest.
fn next_step(found: i32) -> Result<Option<&'static str>, StoreError> {
    if found > VERSION {
        return Err(StoreError::Newer {
            what: "the schema of the database".to_owned(),
            found: u32::try_from(found).unwrap_or(u32::MAX),
            known: u32::try_from(VERSION).unwrap_or(0),
        });
    }
    let step = usize::try_from(found).ok().and_then(|at| STEPS.get(at));
    Ok(step.copied())
}

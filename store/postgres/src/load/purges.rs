//! Reads purges in progress.

use super::each;
use crate::convert::{column, number};
use crate::link::Link;
use stormhook_store::backend::read;
use stormhook_store::{Purge, Purges, StoreError};
use tokio_postgres::Row;

/// Reads the purges of these shards.
pub(crate) async fn purges(link: &Link, shards: &[i16]) -> Result<Purges, StoreError> {
    let sql =
        "SELECT organization, number, record FROM @.purges WHERE shard = ANY($1) ORDER BY number";
    let mut purges = Purges::default();
    each(link, sql, &[&shards], |row| {
        purges.insert(read_purge(row)?);
        Ok(())
    })
    .await?;
    Ok(purges)
}

/// Reads a purge from organization, number and record.
fn read_purge(row: &Row) -> Result<Purge, StoreError> {
    let number = number(column(row, 1)?);
    let purge: Purge = read("purges", &number.to_be_bytes(), column(row, 2)?)?;
    Ok(Purge { number, ..purge })
}

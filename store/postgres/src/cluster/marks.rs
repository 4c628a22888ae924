//! Marks that keep daemons from using the database: that it was moved to another store, or that an import into it has
//! not ended.
//!
//! A daemon looks at them when it takes its seat, and whoever sets one first makes sure that no seat is taken: both under
//! the lock of the row of `meta`.

use super::view::{Seat, fence};
use crate::convert::column;
use crate::link::{Link, failed};
use crate::options::Options;
use crate::schema;
use stormhook_store::StoreError;

/// What the marks are of, in errors.
pub(crate) const WHAT: &str = "the database";

/// The tables that an import fills.
const TABLES: &str = "@.endpoints, @.endpoint_states, @.revisions, @.events, @.open, @.done, @.keys, @.bulk, @.counters, @.windows, @.api_keys, @.audit";

/// The marks.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) importing: bool,
    pub(crate) moved_to: Option<String>,
}

impl Marks {
    /// Reads them, and keeps others from changing them until the transaction ends.
    pub(crate) async fn lock(link: &Link) -> Result<Self, StoreError> {
        let sql = link.sql("SELECT importing, moved_to FROM @.meta FOR UPDATE");
        let row = link.client.query_one(&sql, &[]).await;
        let row = row.map_err(|e| failed(&e))?;
        Ok(Self {
            importing: column(&row, 0)?,
            moved_to: column(&row, 1)?,
        })
    }

    /// Refuses a store that was moved, or whose import has not ended.
    pub(crate) fn expect_usable(self) -> Result<(), StoreError> {
        let what = WHAT.to_owned();
        if self.importing {
            return Err(StoreError::Importing { what });
        }
        match self.moved_to {
            Some(to) => Err(StoreError::Moved { what, to }),
            None => Ok(()),
        }
    }
}

/// Makes sure that no daemon uses the database: refuses if one does, and takes over from those whose lease has ended.
pub(crate) async fn expect_idle(link: &Link, options: &Options) -> Result<(), StoreError> {
    let sql = link.sql("SELECT seat, incarnation FROM @.seats WHERE NOT fenced ORDER BY seat");
    let rows = link.client.query(&sql, &[]).await;
    for row in rows.map_err(|e| failed(&e))? {
        let seat: Seat = column(&row, 0)?;
        let fenced = fence(link, seat, column(&row, 1)?, options.attempt_timeout).await?;
        if fenced.is_none() {
            return Err(StoreError::Database(format!(
                "the daemon with seat {seat} uses it: stop all of its daemons, or wait until the lease of one that was killed has ended (see `stormhook cluster`)"
            )));
        }
    }
    Ok(())
}

/// Removes everything that an import fills, and what is known of it in the lanes.
pub(crate) async fn clear(link: &Link) -> Result<(), StoreError> {
    let sql = link.sql(&format!(
        "TRUNCATE {TABLES}; UPDATE @.lanes SET incarnation = incarnation + 1, counters = ''"
    ));
    let cleared = link.client.batch_execute(&sql).await;
    cleared.map_err(|e| failed(&e))
}

async fn set(link: &Link, importing: bool, moved_to: Option<&str>) -> Result<(), StoreError> {
    let sql = link.sql("UPDATE @.meta SET importing = $1, moved_to = $2");
    let set = link.client.execute(&sql, &[&importing, &moved_to]).await;
    set.map(drop).map_err(|e| failed(&e))
}

/// Marks the database as being imported.
pub(crate) async fn set_importing(link: &Link) -> Result<(), StoreError> {
    set(link, true, None).await
}

/// Marks the store as moved: no daemon starts on it from now on.
///
/// # Errors
/// A daemon uses it, it is marked already, or the database refuses.
pub async fn mark_moved(options: &Options, to: &str) -> Result<(), StoreError> {
    let link = Link::open(options).await?;
    schema::expect(&link).await?;
    let marking = async {
        Marks::lock(&link).await?.expect_usable()?;
        expect_idle(&link, options).await?;
        set(&link, false, Some(to)).await.map(Some)
    };
    link.in_transaction(marking).await.map(drop)
}

/// Takes the mark of a move away. Returns where the store was moved to, if it was marked.
///
/// # Errors
/// The database refuses.
pub async fn reopen(options: &Options) -> Result<Option<String>, StoreError> {
    let link = Link::open(options).await?;
    schema::expect(&link).await?;
    let reopening = async {
        let marks = Marks::lock(&link).await?;
        set(&link, marks.importing, None).await?;
        Ok(Some(marks.moved_to))
    };
    Ok(link.in_transaction(reopening).await?.flatten())
}

/// Takes away what an import left that has not ended. Returns whether there was one.
///
/// # Errors
/// The database refuses.
pub async fn discard_import(options: &Options) -> Result<bool, StoreError> {
    let link = Link::open_for_reading(options).await?;
    schema::expect(&link).await?;
    let discarding = async {
        if !Marks::lock(&link).await?.importing {
            return Ok(Some(false));
        }
        clear(&link).await?;
        set(&link, false, None).await?;
        Ok(Some(true))
    };
    Ok(link.in_transaction(discarding).await? == Some(true))
}

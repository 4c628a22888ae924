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
use stormhook_store::{AtRest, Form, StoreError};
use uuid::Uuid;

/// What the marks are of, in errors.
pub(crate) const WHAT: &str = "the database";

/// The tables that an import fills.
const TABLES: &str = "@.endpoints, @.endpoint_states, @.revisions, @.events, @.open, @.done, @.keys, @.bulk, @.counters, @.windows, @.api_keys, @.audit";

/// The marks.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) importing: bool,
    pub(crate) moved_to: Option<String>,
    /// In which form secrets are kept, as `meta` has it.
    secrets: (String, Option<String>),
}

/// Reads in which form secrets are kept.
pub(crate) fn read_at_rest(form: &str, before: Option<&str>) -> Result<AtRest, StoreError> {
    let parse = |text: &str| {
        let unknown =
            || StoreError::damaged("the row of meta", format!("{text:?} is no form of secrets"));
        Form::parse(text).ok_or_else(unknown)
    };
    Ok(AtRest {
        form: parse(form)?,
        before: before.map(parse).transpose()?,
    })
}

impl Marks {
    /// Reads them, and keeps others from changing them until the transaction ends.
    pub(crate) async fn lock(link: &Link) -> Result<Self, StoreError> {
        let sql = link
            .sql("SELECT importing, moved_to, secrets_form, secrets_before FROM @.meta FOR UPDATE");
        let row = link.client.query_one(&sql, &[]).await;
        let row = row.map_err(|e| failed(&e))?;
        Ok(Self {
            importing: column(&row, 0)?,
            moved_to: column(&row, 1)?,
            secrets: (column(&row, 2)?, column(&row, 3)?),
        })
    }

    /// Returns in which form secrets are kept.
    pub(crate) fn at_rest(&self) -> Result<AtRest, StoreError> {
        let (form, before) = &self.secrets;
        read_at_rest(form, before.as_deref())
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
    match in_use(link, options, None).await? {
        None => Ok(()),
        Some(seat) => Err(StoreError::Database(format!(
            "the daemon with seat {seat} uses it: {HOW_TO_STOP}"
        ))),
    }
}

/// What to do about daemons that use the database.
const HOW_TO_STOP: &str = "stop all of its daemons, or wait until the lease of one that was killed has ended (see `stormhook cluster`)";

/// Makes sure that no daemon but the one of this data directory uses the database, before secrets get another form: the
/// others could not read them.
pub(crate) async fn expect_alone(
    link: &Link,
    options: &Options,
    me: Option<Uuid>,
) -> Result<(), StoreError> {
    match in_use(link, options, me).await? {
        None => Ok(()),
        Some(seat) => Err(StoreError::Database(format!(
            "secrets can only be encrypted, decrypted or re-encrypted while no daemon with other keys uses it, and the daemon with seat {seat} does: {HOW_TO_STOP}, then start them all with the same secrets.key_file"
        ))),
    }
}

/// Returns a seat whose daemon uses the database, and takes over from those whose lease has ended.
async fn in_use(
    link: &Link,
    options: &Options,
    except: Option<Uuid>,
) -> Result<Option<Seat>, StoreError> {
    let sql =
        link.sql("SELECT seat, incarnation, daemon FROM @.seats WHERE NOT fenced ORDER BY seat");
    let rows = link.client.query(&sql, &[]).await;
    for row in rows.map_err(|e| failed(&e))? {
        let seat: Seat = column(&row, 0)?;
        if except == Some(column(&row, 2)?) {
            continue;
        }
        let fenced = fence(link, seat, column(&row, 1)?, options.attempt_timeout).await?;
        if fenced.is_none() {
            return Ok(Some(seat));
        }
    }
    Ok(None)
}

/// Records in which form secrets are kept.
pub(crate) async fn set_at_rest(link: &Link, at_rest: AtRest) -> Result<(), StoreError> {
    let sql = link.sql("UPDATE @.meta SET secrets_form = $1, secrets_before = $2");
    let before = at_rest.before.map(|before| before.to_string());
    let form = at_rest.form.to_string();
    let set = link.client.execute(&sql, &[&form, &before]).await;
    set.map(drop).map_err(|e| failed(&e))
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

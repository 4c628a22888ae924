//! Encrypts the private parts of all endpoints, decrypts them, or changes their key: some hundred at a time, beside the
//! lanes, whose endpoints in memory stay as they are. `cluster::form` begins it.

use crate::cluster::form::begin;
use crate::cluster::marks::{self, Marks, WHAT};
use crate::convert::{column, int4, slot};
use crate::link::{Link, failed};
use crate::memory::Shared;
use crate::options::Options;
use crate::schema;
use std::sync::Arc;
use stormhook_store::backend::{read_endpoint, slot_key, write_endpoint};
use stormhook_store::maintenance::{RESEALED_PER_STEP, Resealed};
use stormhook_store::{AtRest, Form, Sealing, StoreError};

/// Writes the next endpoints in the form that the store has, in a transaction of its own.
async fn step(link: &Link, sealing: &mut Sealing) -> Result<Resealed, StoreError> {
    let form = sealing.form();
    let most = i64::try_from(RESEALED_PER_STEP).unwrap_or(i64::MAX);
    let sql = link.sql(
        "SELECT slot, record FROM @.endpoints WHERE secrets_form <> $1 ORDER BY slot LIMIT $2 FOR UPDATE",
    );
    let put = link.sql("UPDATE @.endpoints SET record = $2, secrets_form = $3 WHERE slot = $1");
    let rewriting = async {
        let rows = link.client.query(&sql, &[&form.to_string(), &most]).await;
        for row in rows.map_err(|e| failed(&e))? {
            let slot = slot(column(&row, 0)?);
            let read = read_endpoint(&slot_key(slot), column(&row, 1)?, sealing.keys())?;
            let record = write_endpoint(&read.endpoint, sealing.seal()?)?;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&int4(slot), &record, &form.to_string()];
            let put = link.client.execute(&put, &parameters).await;
            put.map_err(|e| failed(&e))?;
        }
        Ok(Some(()))
    };
    link.in_transaction(rewriting).await?;
    let sql = link.sql("SELECT count(*) FROM @.endpoints WHERE secrets_form <> $1");
    let left = link.client.query_one(&sql, &[&form.to_string()]).await;
    let left: i64 = column(&left.map_err(|e| failed(&e))?, 0)?;
    if left > 0 {
        let before = at_rest(link).await?.before;
        return Ok(Resealed {
            at_rest: AtRest { form, before },
            left: usize::try_from(left).unwrap_or(usize::MAX),
        });
    }
    let sql = link.sql("UPDATE @.meta SET secrets_before = NULL WHERE secrets_form = $1");
    let ended = link.client.execute(&sql, &[&form.to_string()]).await;
    ended.map_err(|e| failed(&e))?;
    Ok(Resealed {
        at_rest: AtRest::of(form),
        left: 0,
    })
}

/// Returns in which form secrets are kept.
pub(crate) async fn at_rest(link: &Link) -> Result<AtRest, StoreError> {
    let sql = link.sql("SELECT secrets_form, secrets_before FROM @.meta");
    let row = link.client.query_one(&sql, &[]).await;
    let row = row.map_err(|e| failed(&e))?;
    marks::read_at_rest(column(&row, 0)?, column(&row, 1)?)
}

/// Returns in which form the store in a database keeps its secrets.
///
/// # Errors
/// The database refuses.
pub async fn secrets_at_rest(options: &Options) -> Result<AtRest, StoreError> {
    let link = Link::open(options).await?;
    schema::expect(&link).await?;
    at_rest(&link).await
}

/// Brings the secrets of a database that no daemon uses to this form. What was begun before is finished first.
///
/// # Errors
/// A daemon uses it, a key is missing, or the database refuses.
pub async fn reseal(
    options: &Options,
    to: Form,
    random: u128,
    mut each: impl FnMut(Resealed),
) -> Result<(), StoreError> {
    let link = Link::open(options).await?;
    schema::expect(&link).await?;
    loop {
        let beginning = async {
            let marks = Marks::lock(&link).await?;
            let found = marks.at_rest()?;
            marks.expect_usable()?;
            found.expect_keys(&options.keys, WHAT)?;
            if found.before.is_some() || found.form == to {
                return Ok(Some(found));
            }
            AtRest::of(to).expect_keys(&options.keys, WHAT)?;
            begin(&link, options, found, to, None).await.map(Some)
        };
        let Some(found) = link.in_transaction(beginning).await? else {
            return Err(StoreError::Database("nothing was changed".to_owned()));
        };
        if found == AtRest::of(to) {
            return Ok(());
        }
        let mut sealing = Sealing::new(Arc::clone(&options.keys), found.form, random);
        loop {
            let done = step(&link, &mut sealing).await?;
            each(done);
            if done.left == 0 {
                break;
            }
        }
    }
}

/// Does the same in the background of a daemon, as far as it was begun when the daemon took its seat.
#[derive(Debug)]
pub struct Resealer {
    shared: Arc<Shared>,
    working: Option<(Arc<Link>, Sealing)>,
}

impl Resealer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let working = None;
        Self { shared, working }
    }

    /// Writes the next endpoints.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn step(&mut self, random: u128) -> Result<Resealed, StoreError> {
        let (at_rest, keys) = {
            let memory = self.shared.memory();
            (memory.at_rest, Arc::clone(&memory.keys))
        };
        if at_rest.before.is_none() {
            return Ok(Resealed { at_rest, left: 0 });
        }
        let (link, mut sealing) = match self.working.take() {
            Some((link, sealing)) if !link.client.is_closed() => (link, sealing),
            _ => {
                let link = Link::open(&self.shared.options).await?;
                (link, Sealing::new(keys, at_rest.form, random))
            }
        };
        let done = step(&link, &mut sealing).await?;
        self.shared.memory_mut().at_rest = done.at_rest;
        if done.left > 0 {
            self.working = Some((link, sealing));
        }
        Ok(done)
    }
}

//! In which form all daemons keep secrets.
//!
//! The form changes while no other daemon uses the database, under the lock of the row of `meta`, under which a daemon also
//! takes its seat. So each daemon that runs writes the form that `meta` has, and when no row has another one, none will.

use super::marks::{self, WHAT};
use crate::link::Link;
use crate::options::Options;
use stormhook_store::{AtRest, Form, StoreError};
use uuid::Uuid;

/// Begins to bring all private parts to the form that the configured keys ask for, unless they have it. Returns what the
/// store has from now on. `me` is the data directory of the caller, who may have a seat. In a transaction of the caller,
/// which holds the lock.
pub(crate) async fn follow_keys(
    link: &Link,
    options: &Options,
    found: AtRest,
    me: Option<Uuid>,
) -> Result<AtRest, StoreError> {
    found.expect_keys(&options.keys, WHAT)?;
    match found.next(&options.keys) {
        Some(form) if form != found.form => begin(link, options, found, form, me).await,
        _ => Ok(found),
    }
}

/// Begins to bring all private parts to a form, unless another daemon uses the database. In a transaction of the caller,
/// which holds the lock.
pub(crate) async fn begin(
    link: &Link,
    options: &Options,
    found: AtRest,
    form: Form,
    me: Option<Uuid>,
) -> Result<AtRest, StoreError> {
    marks::expect_alone(link, options, me).await?;
    let at_rest = AtRest {
        form,
        before: Some(found.form),
    };
    marks::set_at_rest(link, at_rest).await?;
    Ok(at_rest)
}

//! Encrypts the secrets of a store that no daemon has open, decrypts them, or changes their key.

use crate::error::StoreError;
use crate::file::store::Store;
use crate::ids::{Now, UnixMs};
use crate::maintenance::{Reseal, Resealed};
use crate::op::Operation;
use crate::options::Options;
use crate::sealing::{AtRest, Form, Keys};
use std::path::Path;
use std::sync::Arc;

/// Brings the secrets of a stopped store to this form, in bounded commits: it can be interrupted at any moment, and
/// repeated. What was begun before is finished first. `now` is the time of the wall clock, `random` makes nonces differ,
/// and `each` is called after each commit.
///
/// # Errors
/// A daemon has it open, a key is missing, it is damaged, or the system refused.
pub fn reseal_file(
    path: &Path,
    keys: Arc<Keys>,
    to: Form,
    now: UnixMs,
    mut random: impl FnMut() -> u128,
    mut each: impl FnMut(Resealed),
) -> Result<(), StoreError> {
    if !path.try_exists().unwrap_or(true) {
        return Err(StoreError::damaged(
            path.display().to_string(),
            "it is missing",
        ));
    }
    let options = Options {
        keys,
        ..Options::new(path)
    };
    let mut store = Store::open(options)?;
    let now = Now {
        at: now,
        paced: store.reader().paced_at(),
    };
    loop {
        let applied = store.apply([Reseal { to }.into()], now, random())?;
        let done = applied.done.into_iter().next();
        let done = done.map_or(Err("there was no answer".to_owned()), Reseal::answer);
        let done = done.map_err(|damage| StoreError::damaged("the store", damage))?;
        each(done);
        if done.left == 0 && done.at_rest == AtRest::of(to) {
            return Ok(());
        }
    }
}

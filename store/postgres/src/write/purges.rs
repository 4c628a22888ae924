//! Purges that begin and end, and what they remove.

use super::deliveries::{DELETE_DONE, DELETE_OPEN};
use super::{INT4S, INT8S, Steps, UUIDS, parameters};
use crate::cluster::Shard;
use crate::convert::{int4, int8, uuid};
use crate::staged::Staged;
use stormhook_store::backend::write;
use stormhook_store::{Purge, PurgeEffect, StoreError};
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(super) async fn purges(steps: &mut Steps<'_>, staged: &Staged) -> Result<(), StoreError> {
    let purged = &staged.purged;
    for purge in &purged.begun {
        new_purge(steps, purge).await?;
    }
    for (organization, number) in &purged.ended {
        let sql = "DELETE FROM @.purges WHERE organization = $1 AND number = $2";
        let parameters = parameters![organization.clone(), int8(*number)];
        let types = [Type::TEXT, Type::INT8];
        steps.add(sql, &types, parameters).await?;
    }
    if !purged.deliveries.is_empty() {
        let of = purged.deliveries.iter();
        let slots: Vec<i32> = of.clone().map(|(id, _)| int4(id.slot)).collect();
        let numbers: Vec<i64> = of.clone().map(|(_, sequence)| int8(*sequence)).collect();
        let events: Vec<Uuid> = of.map(|(id, _)| uuid(id.event.0)).collect();
        let open = parameters![slots.clone(), numbers.clone()];
        steps.add(DELETE_OPEN, &[INT4S, INT8S], open).await?;
        let done = parameters![slots, numbers, events];
        steps.add(DELETE_DONE, &[INT4S, INT8S, UUIDS], done).await?;
    }
    for (effect, sql) in [
        (
            PurgeEffect::Data,
            "UPDATE @.events SET data = NULL WHERE id = ANY($1)",
        ),
        (
            PurgeEffect::All,
            "UPDATE @.events SET organization = '', type = '', occurred_text = NULL, key = NULL, deliveries = 0, \
               targets = '', data = NULL WHERE id = ANY($1)",
        ),
    ] {
        let of = purged.events.iter().filter(|(_, of)| **of == effect);
        let ids: Vec<Uuid> = of.map(|(id, _)| uuid(id.0)).collect();
        if !ids.is_empty() {
            steps.add(sql, &[UUIDS], parameters![ids]).await?;
        }
    }
    if !purged.api_keys.is_empty() {
        let ids: Vec<Uuid> = purged.api_keys.iter().map(|id| uuid(id.0)).collect();
        let sql = "DELETE FROM @.api_keys WHERE id = ANY($1)";
        steps.add(sql, &[UUIDS], parameters![ids]).await?;
    }
    Ok(())
}

/// Writes a purge. One that is written again, after the database lost the last commits, stays one.
pub(crate) async fn new_purge(steps: &mut Steps<'_>, purge: &Purge) -> Result<(), StoreError> {
    let sql = "INSERT INTO @.purges (organization, number, shard, record) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (organization, number) DO NOTHING";
    let types = [Type::TEXT, Type::INT8, Type::INT2, Type::BYTEA];
    let parameters = parameters![
        purge.organization.clone(),
        int8(purge.number),
        Shard::of(&purge.organization).number(),
        write("purges", &purge.number.to_be_bytes(), purge)?,
    ];
    steps.add(sql, &types, parameters).await
}

//! What a daemon knows of the others: who takes part, and who holds which shard.

use super::{SHARDS, Shard};
use crate::convert::{column, milliseconds};
use crate::link::{Link, failed};
use std::collections::BTreeMap;
use std::time::Duration;
use stormhook_store::StoreError;
use tokio_postgres::types::Type;

/// The number of a daemon's place among those on the database.
pub type Seat = i16;

/// A daemon that takes part, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Grows with each start.
    pub incarnation: i64,
    /// The version of the program.
    pub version: String,
    /// The version of the schema that it knows.
    pub schema: i32,
    /// Where it is reached.
    pub address: Option<String>,
    /// The certificate that it shows there.
    pub certificate: Option<Vec<u8>>,
    /// For how long its lease is still valid, in milliseconds; negative once it has expired.
    pub lease_ms: i64,
    /// How long ago it renewed its lease, in milliseconds.
    pub seen_ms: i64,
}

impl Member {
    /// Whether its lease has expired.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.lease_ms < 0
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The daemons that no other has taken over from.
    pub members: BTreeMap<Seat, Member>,
    /// The owner of each shard that has one.
    pub owners: BTreeMap<Shard, Seat>,
    /// The SHA-256 digest of the token of callers over TCP, if a daemon has made one.
    pub admin_token_digest: Option<Vec<u8>>,
    /// Grows whenever an API key is created or revoked.
    pub(crate) api_keys_revision: i64,
}

impl View {
    /// Returns the shards of a seat.
    pub fn shards_of(&self, seat: Seat) -> impl Iterator<Item = Shard> + '_ {
        let of = self.owners.iter().filter(move |(_, owner)| **owner == seat);
        of.map(|(shard, _)| *shard)
    }

    /// Whether all daemons know a version of the schema.
    pub(crate) fn all_know(&self, schema: i32) -> bool {
        self.members.values().all(|member| member.schema >= schema)
    }

    /// Returns how many shards have no owner.
    #[must_use]
    pub fn free(&self) -> usize {
        SHARDS.saturating_sub(self.owners.len())
    }

    /// Reads the view. `lease` is this daemon's, by which those of others are judged.
    pub(crate) async fn read(link: &Link, lease: Duration) -> Result<Self, StoreError> {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let sql = "SELECT seat, incarnation, version, address, (extract(epoch FROM lease_until - now()) * 1000)::int8, certificate, schema \
                   FROM @.seats WHERE NOT fenced";
        let members = link.prepare(sql, &[]).await?;
        let owners = link
            .prepare(
                "SELECT shard, owner FROM @.shards WHERE owner IS NOT NULL",
                &[],
            )
            .await?;
        let sql = "SELECT admin_token_digest, api_keys_revision FROM @.meta";
        let digest = link.prepare(sql, &[]).await?;
        let (members, owners, digest) = futures_util::future::try_join3(
            link.client.query(&members, &[]),
            link.client.query(&owners, &[]),
            link.client.query_one(&digest, &[]),
        )
        .await
        .map_err(|e| failed(&e))?;
        let mut view = Self {
            admin_token_digest: column(&digest, 0)?,
            api_keys_revision: column(&digest, 1)?,
            ..Self::default()
        };
        for row in &members {
            let left_ms: i64 = column(row, 4)?;
            let member = Member {
                incarnation: column(row, 1)?,
                version: column(row, 2)?,
                schema: column(row, 6)?,
                address: column(row, 3)?,
                certificate: column(row, 5)?,
                lease_ms: left_ms,
                seen_ms: (lease_ms - left_ms).max(0),
            };
            view.members.insert(column(row, 0)?, member);
        }
        for row in &owners {
            if let Some(shard) = Shard::numbered(column(row, 0)?) {
                view.owners.insert(shard, column(row, 1)?);
            }
        }
        Ok(view)
    }

    /// Fences a daemon whose lease has expired: none of its commits succeeds any more, and its shards are free.
    /// `on_wire` is how long its attempts may take. Returns whether it was fenced now.
    pub(crate) async fn fence(
        link: &Link,
        seat: Seat,
        incarnation: i64,
        on_wire: Duration,
    ) -> Result<bool, StoreError> {
        let fencing = fence(link, seat, incarnation, on_wire);
        Ok(link.in_transaction(fencing).await?.is_some())
    }
}

/// Does the same within a transaction of the caller. Returns `None` if the lease has not expired.
///
/// The same locks in the same order as a lane's commit and a claim: seats, lanes, shards.
pub(crate) async fn fence(
    link: &Link,
    seat: Seat,
    incarnation: i64,
    on_wire: Duration,
) -> Result<Option<()>, StoreError> {
    let sql = "UPDATE @.seats SET fenced = true \
               WHERE seat = $1 AND incarnation = $2 AND NOT fenced AND lease_until < now()";
    let statement = link.prepare(sql, &[Type::INT2, Type::INT8]).await?;
    let fenced = link
        .client
        .execute(&statement, &[&seat, &incarnation])
        .await;
    if fenced.map_err(|e| failed(&e))? == 0 {
        return Ok(None);
    }
    // Waits for a commit that is under way.
    let sql =
        "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = $1 RETURNING states_upto";
    let statement = link.prepare(sql, &[Type::INT2]).await?;
    let lane = link.client.query_one(&statement, &[&seat]).await;
    let states_upto: uuid::Uuid = column(&lane.map_err(|e| failed(&e))?, 0)?;
    let sql = "UPDATE @.shards SET owner = NULL, \
                 states_upto = CASE WHEN adopted THEN greatest(states_upto, $2) ELSE states_upto END, \
                 rests_until = now() + $3 * interval '1 millisecond' WHERE owner = $1";
    let types = [Type::INT2, Type::UUID, Type::FLOAT8];
    let statement = link.prepare(sql, &types).await?;
    let rest = milliseconds(on_wire);
    let freed = link
        .client
        .execute(&statement, &[&seat, &states_upto, &rest])
        .await;
    freed.map_err(|e| failed(&e))?;
    Ok(Some(()))
}

//! The daemons that share the store.

use super::fields::query;
use super::{Answer, Shared};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::Uri;
use serde::Serialize;
use stormhook_engine::times::rfc3339;
use stormhook_store::UnixMs;
use utoipa::ToSchema;

/// The daemons that share the store.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Cluster, examples(json!({
    "daemons": [{"id": "0", "version": "0.1.0", "address": "10.0.0.5:8651", "shards": 256, "lastSeen": "2026-01-02T03:04:05.678Z", "self": true}],
    "shards": [{"shard": 0, "daemon": "0"}], "database": {"clockAheadMs": 3}})))]
pub(super) struct ClusterView {
    /// The daemons, by id.
    daemons: Vec<DaemonView>,
    /// The shards, each with the daemon that decides about it. A shard is the organizations whose ids have this first
    /// byte of MD5.
    shards: Vec<ShardView>,
    /// The database; null if the store is a file.
    #[schema(required)]
    database: Option<DatabaseView>,
}

/// A daemon.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Daemon)]
pub(super) struct DaemonView {
    /// Its id.
    id: String,
    /// The version of stormhook.
    version: String,
    /// Where the other daemons reach it; null if they can't, or if there are none.
    #[schema(required)]
    address: Option<String>,
    /// How many shards it has.
    shards: usize,
    /// When it last renewed its lease.
    #[schema(value_type = String, format = DateTime)]
    last_seen: String,
    /// Whether it is the daemon that answers.
    #[serde(rename = "self")]
    is_self: bool,
}

/// A shard.
#[derive(Serialize, ToSchema)]
#[schema(as = Shard)]
pub(super) struct ShardView {
    /// Its number.
    #[schema(minimum = 0, maximum = 255)]
    shard: u8,
    /// The id of its daemon; null while it moves.
    #[schema(required)]
    daemon: Option<String>,
}

/// The database.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Database)]
pub(super) struct DatabaseView {
    /// How far the clock of the database is ahead of this daemon's machine, in milliseconds; negative if it is behind.
    clock_ahead_ms: i64,
}

/// Shows the daemons that share the store.
///
/// With the store in a file there is one.
#[utoipa::path(get, path = "/v1/cluster", tag = "operations", operation_id = "getCluster",
    responses((status = 200, description = "The daemons.", body = ClusterView)))]
pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    query::<()>(&uri)?;
    #[cfg(feature = "postgres")]
    if let Some(peers) = app.peers() {
        return Ok(Json(shared(&app, peers).await).into_response());
    }
    Ok(Json(alone(&app)).into_response())
}

fn seen(at: UnixMs) -> String {
    rfc3339(at)
}

/// The only daemon.
fn alone(app: &App) -> ClusterView {
    let id = "0".to_owned();
    ClusterView {
        daemons: vec![DaemonView {
            id: id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: None,
            shards: 256,
            last_seen: seen(app.now()),
            is_self: true,
        }],
        shards: (0..=255)
            .map(|shard| ShardView {
                shard,
                daemon: Some(id.clone()),
            })
            .collect(),
        database: None,
    }
}

#[cfg(feature = "postgres")]
async fn shared(app: &App, peers: &crate::peers::Peers) -> ClusterView {
    use stormhook_postgres::cluster::Shard;
    peers.look().await;
    let view = peers.cluster.view();
    let wall = app.wall();
    let daemons = view.members.iter().map(|(seat, member)| DaemonView {
        id: seat.to_string(),
        version: member.version.clone(),
        address: member.address.clone(),
        shards: view.shards_of(*seat).count(),
        last_seen: {
            let ago = u64::try_from(member.seen_ms).unwrap_or(0);
            seen(UnixMs(wall.0.saturating_sub(ago)))
        },
        is_self: *seat == peers.cluster.seat(),
    });
    let owner = |shard| view.owners.get(&Shard(shard)).map(ToString::to_string);
    ClusterView {
        daemons: daemons.collect(),
        shards: (0..=255)
            .map(|shard| ShardView {
                shard,
                daemon: owner(shard),
            })
            .collect(),
        database: Some(DatabaseView {
            clock_ahead_ms: crate::environment::ahead_ms(&peers.cluster),
        }),
    }
}

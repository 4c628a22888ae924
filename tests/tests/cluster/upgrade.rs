//! An upgrade without a pause: daemons of an earlier version, then of both, then of this one, on one database under load.

use super::{metric, on, shared_out, start_each};
use crate::support::{Setup, load, until};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use stormhook_test_postgres::Server;

/// `scripts/rolling-upgrade` builds the earlier version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an earlier version of the program, in STORMHOOK_OTHER"]
async fn daemons_are_upgraded_one_by_one_under_load_and_take_over_from_each_other_meanwhile() {
    let other = PathBuf::from(std::env::var_os("STORMHOOK_OTHER").expect("STORMHOOK_OTHER"));
    let server = Server::start();
    let seed = load::seed();
    let setup = |_| on(&server, load::setup()).serve_by(other.clone());
    let mut daemons = start_each(2, setup).await;
    let schema = || server.sql("SELECT version FROM stormhook.meta");
    let seats =
        || server.sql("SELECT string_agg(schema::text, ' ' ORDER BY seat) FROM stormhook.seats");
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    load.goes_on(300).await;
    let before = schema();
    let migrating = on(&server, Setup::new());
    migrating.write_config();
    let config = migrating.config_path();
    let migrate = ["migrate", "--config", config.to_str().unwrap()];
    let migrated = migrating.run(&migrate).await;
    assert!(migrated.status.success(), "{migrated:?}");
    eprintln!("schema {before}, now {}", schema());
    // Those of the version before go on beside it.
    load.goes_on(300).await;
    // The first one in order.
    assert!(daemons[0].stop().await.success());
    daemons[0].serve_by(None);
    daemons[0].start_again().await;
    shared_out(&daemons[0], 2).await;
    eprintln!("both versions: daemons with schemas {}", seats());
    load.goes_on(300).await;
    // The earlier version takes over from this one, by force.
    daemons[0].kill().await;
    until("the earlier version has all", async || {
        let shards = "SELECT count(*) = 256 FROM stormhook.shards WHERE owner = 1";
        (server.sql(shards) == "t").then_some(())
    })
    .await;
    load.goes_on(300).await;
    daemons[0].start_again().await;
    shared_out(&daemons[0], 2).await;
    load.goes_on(300).await;
    // This version takes over from the earlier one, by force.
    daemons[1].kill().await;
    until("this version has all", async || {
        (metric(&daemons[0], "cluster_shards_held").await == 256.0).then_some(())
    })
    .await;
    load.goes_on(300).await;
    daemons[1].serve_by(None);
    daemons[1].start_again().await;
    shared_out(&daemons[0], 2).await;
    eprintln!("this version: daemons with schemas {}", seats());
    load.goes_on(300).await;
    load.finish(&daemons[0], 2).await;
    for daemon in &mut daemons {
        let api = daemon.client();
        let checked = api.call("POST", "/v1/check").json(json!({})).send().await;
        assert_eq!(checked.json()["damage"], json!([]));
        assert!(daemon.stop().await.success());
    }
}

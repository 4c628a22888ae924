//! A daemon whose network to the database is cut, so that packets are lost and nobody is told, while another daemon of
//! the database and the receivers are still reached. The networks are namespaces that the test makes.

use super::{metric, shared_out, start_each};
use crate::support::namespaces::{self, Network};
use crate::support::{Daemon, Draw, Setup, load, until};
use serde_json::json;
use std::time::Duration;
use stormhook_test_postgres::Server;

/// Starts a server in a network of its own, and two daemons, each with a cable to it.
async fn start(lease: &str, setup: impl Fn() -> Setup) -> (Network, Server, Vec<Daemon>) {
    let network = Network::new();
    let urls = [0, 1].map(|number| {
        let address = network.lay(number);
        format!(r#""postgres://postgres@{address}/postgres""#)
    });
    let server = Server::start_in(network.file());
    let setup = |number: usize| {
        let setup = setup().set("store.url", &urls[number]);
        setup.set("store.lease", lease)
    };
    let daemons = start_each(2, setup).await;
    (network, server, daemons)
}

/// Waits until a daemon decides about everything.
async fn has_all(daemon: &Daemon) {
    until("it has all shards", async || {
        (metric(daemon, "cluster_shards_held").await == 256.0).then_some(())
    })
    .await;
}

/// Returns the number of the last commit of the daemon that others have taken over from.
fn commits_of_fenced(server: &Server) -> String {
    server.sql(
        "SELECT commit_no FROM stormhook.lanes JOIN stormhook.seats ON seat = lane WHERE fenced",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_cut_off_for_longer_than_its_lease_commits_nothing_more_and_ends() {
    let name = "cluster::cut::a_daemon_that_is_cut_off_for_longer_than_its_lease_commits_nothing_more_and_ends";
    if !namespaces::entered(name) {
        return;
    }
    let seed = load::seed();
    let (network, server, mut daemons) = start(r#""2s""#, load::setup).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    for cut in 0..2 {
        load.goes_on(200).await;
        network.cut(cut);
        has_all(&daemons[1 - cut]).await;
        // The other one goes on, and this one refuses what it is asked.
        load.goes_on(50).await;
        let mut refused = 0;
        for number in 0..16 {
            // Of these organizations, none of which has an endpoint, it had about half.
            let organization = format!("other_{number}");
            let event = json!({"organizationId": organization, "type": "order.created", "data": 0});
            let call = daemons[cut].client();
            let call = call.call("POST", "/v1/events").json(event).send().await;
            match call.status.as_u16() {
                202 => {}
                503 => {
                    assert_eq!(call.json()["code"], "busy", "{call:?}");
                    refused += 1;
                }
                _ => panic!("{call:?}"),
            }
        }
        assert!(refused > 0, "it refuses what it had");
        let last = commits_of_fenced(&server);
        assert!(!daemons[cut].has_ended());
        network.mend(cut);
        assert_eq!(daemons[cut].ended().await.code(), Some(1));
        let log = daemons[cut].log();
        assert!(
            log.contains("another daemon has taken over from this one"),
            "{log}"
        );
        assert_eq!(commits_of_fenced(&server), last);
        daemons[cut].start_again().await;
        shared_out(&daemons[0], 2).await;
    }
    let slowest = load.refused().slowest;
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
    load.finish(&daemons[0], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_cut_off_for_a_moment_goes_on() {
    let name = "cluster::cut::a_daemon_that_is_cut_off_for_a_moment_goes_on";
    if !namespaces::entered(name) {
        return;
    }
    let seed = load::seed();
    let mut draw = Draw::seeded(seed);
    let (network, _server, mut daemons) = start(r#""8s""#, load::setup).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    for cut in [0, 1, 0] {
        load.goes_on(200).await;
        network.cut(cut);
        // The moment matters here; nothing is waited for. It is to renew its lease within this time.
        let moment = Duration::from_micros(2_000_000 + draw.below(500_000));
        tokio::time::sleep(moment).await;
        network.mend(cut);
        load.goes_on(200).await;
    }
    for daemon in &mut daemons {
        assert!(!daemon.has_ended());
        assert_eq!(metric(daemon, "cluster_takeovers_total").await, 0.0);
        assert_eq!(metric(daemon, "cluster_shards_held").await, 128.0);
    }
    // Nothing is sent again: outcomes are kept until they can be recorded.
    load.finish(&daemons[0], 0).await;
}

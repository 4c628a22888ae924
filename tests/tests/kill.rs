//! The promise, under kill -9: every acknowledged event reaches every subscribed endpoint, no pair is sent more often
//! than once plus the number of kills, and each endpoint's sequence has no gap.

use crate::support::{Draw, load};
use serde_json::json;
use std::time::Duration;

const KILLS: usize = 22;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_pair_is_sent_more_than_once_plus_the_kills() {
    let seed = load::seed();
    let mut draw = Draw::seeded(seed);
    let mut daemon = load::setup().start().await;
    let load = load::Load::start(&daemon, seed).await;
    for _ in 0..KILLS {
        // The moment matters here; nothing is waited for.
        tokio::time::sleep(Duration::from_micros(draw.below(400_000))).await;
        daemon.kill().await;
        daemon.start_again().await;
    }
    load.finish(&daemon, KILLS).await;
    assert!(daemon.stop().await.success());
}

/// Half an hour, or `STORMHOOK_SOAK_MINUTES`, of a small load on one store that is stopped again and again: `cargo
/// nextest run -p stormhook-tests --run-ignored only soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour"]
async fn a_soak_of_kills_and_stops_loses_nothing() {
    let minutes = std::env::var("STORMHOOK_SOAK_MINUTES").ok();
    let minutes = minutes.map_or(30, |text| text.parse().unwrap());
    let seed = load::seed();
    let mut draw = Draw::seeded(seed);
    let mut daemon = load::setup().start().await;
    let load = load::Load::paced(&daemon, seed, Duration::from_millis(40)).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(60 * minutes);
    let (mut kills, mut stops) = (0, 0);
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_micros(draw.below(5_000_000))).await;
        if draw.below(4) == 0 {
            assert!(daemon.stop().await.success());
            stops += 1;
        } else {
            daemon.kill().await;
            kills += 1;
        }
        daemon.start_again().await;
        if draw.below(16) == 0 {
            let api = daemon.client();
            let checked = api.call("POST", "/v1/check").json(json!({}));
            let checked = checked.send().await.json();
            assert_eq!(checked["damage"], json!([]));
            let acknowledged = load.acknowledged();
            eprintln!("{kills} kills, {stops} stops, {acknowledged} acknowledged: check is clean");
        }
    }
    load.finish(&daemon, kills).await;
    eprintln!("{kills} kills, {stops} stops in {minutes} minutes");
    assert!(daemon.stop().await.success());
}

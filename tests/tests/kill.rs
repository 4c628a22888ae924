//! The promise, under kill -9: every acknowledged event reaches every subscribed endpoint, no pair
//! is sent more often than once plus the kills, and each endpoint's sequence has no gap.

use crate::support::{Draw, load};
use std::time::Duration;

const KILLS: usize = 22;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_pair_is_sent_more_than_once_plus_the_kills() {
    let seed = load::seed();
    let mut draw = Draw::seeded(seed);
    let mut daemon = load::setup().start().await;
    let load = load::Load::start(&daemon, seed).await;
    for _ in 0..KILLS {
        // The moment is the point here; nothing is waited for.
        tokio::time::sleep(Duration::from_micros(draw.below(400_000))).await;
        daemon.kill().await;
        daemon.start_again().await;
    }
    load.finish(&daemon, KILLS).await;
    assert!(daemon.stop().await.success());
}

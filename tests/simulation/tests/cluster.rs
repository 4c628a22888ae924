//! A few seeds of daemons on one database, and that a seed determines a run.

#![allow(clippy::expect_used, reason = "a test that can't continue fails")]

use std::process::Command;
use stormhook_simulation::cluster::{Tally, run};

/// Returns the history of a seed, as its command prints it. A process of its own: names of statements get longer with each
/// that the driver prepares, and where a connection cuts them depends on that.
fn history(seed: u64) -> Vec<String> {
    let seed = seed.to_string();
    let ran = Command::new(env!("CARGO_BIN_EXE_stormhook-simulation"))
        .args(["--cluster", "--seed", &seed, "--verbose"])
        .output()
        .expect("it runs");
    assert!(ran.status.success(), "seed {seed}");
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8(said).expect("text");
    let lines = said.lines().filter(|line| !line.contains("seeds/s"));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_same_seed_is_the_same_history_of_many_daemons() {
    let once = history(3);
    assert!(once.len() > 100, "{} lines", once.len());
    assert_eq!(once, history(3));
    assert_ne!(once, history(4));
}

#[test]
fn daemons_on_one_database_lose_nothing_over_kills_pauses_cuts_and_restarts() {
    let mut sum = Tally::default();
    for seed in 33..38 {
        let report = run(seed, false);
        assert_eq!(report.violation, None, "seed {seed}");
        sum += report.tally;
    }
    let faults = [sum.kills, sum.pauses, sum.cuts, sum.restarts, sum.stops];
    let takeovers = [sum.fenced_alive, sum.fresh_taken_over];
    let mut met = faults.into_iter().chain(takeovers);
    assert!(met.all(|count| count > 0), "{sum:?}");
}

//! A few seeds of daemons on one database, and that a seed determines a run.

use stormhook_simulation::cluster::{Tally, run};

#[test]
fn the_same_seed_is_the_same_history_of_many_daemons() {
    let (once, again) = (run(3, false), run(3, false));
    assert_eq!(once.trace, again.trace);
    assert_ne!(once.trace, run(4, false).trace);
}

#[test]
fn daemons_on_one_database_lose_nothing_over_kills_pauses_cuts_and_restarts() {
    let mut sum = Tally::default();
    for seed in 1..7 {
        let report = run(seed, false);
        assert_eq!(report.violation, None, "seed {seed}");
        sum += report.tally;
    }
    let met = [sum.kills, sum.pauses, sum.cuts, sum.restarts, sum.stops];
    assert!(
        met.iter().all(|count| *count > 0) && sum.fenced_alive > 0,
        "{sum:?}"
    );
}

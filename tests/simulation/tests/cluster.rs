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

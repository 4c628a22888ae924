//! A few seeds, and that a seed determines a run: otherwise no failure could be repeated.

use stormhook_simulation::run;

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [4, 13] {
        let (once, again) = (run(seed, false), run(seed, false));
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert_eq!(once.violation, None, "seed {seed}");
        assert!(
            once.tally.requests > 0 && once.tally.crashes > 0,
            "{once:?}"
        );
    }
}

#[test]
fn another_seed_is_another_history() {
    assert_ne!(run(3, false).trace, run(12, false).trace);
}

//! What is counted over a run, and over many.

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted over a whole run.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl std::ops::AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

tally! {
    /// Commits that were announced.
    commits,
    /// Requests that reached partners.
    requests,
    /// Of them, the same attempt again after a crash.
    repeated,
    /// Events that were acknowledged.
    acknowledged,
    /// Deliveries made.
    deliveries,
    /// Times that the daemon was killed.
    crashes,
    /// Times that it stopped in good order.
    stops,
    /// Commits that failed.
    failed_commits,
    /// Jumps of the wall clock.
    jumps,
    /// Deep checks.
    checks,
    /// Times that the journal was folded into a generation.
    folds,
    /// Generations that were dropped once they were past retention.
    generations_dropped,
    /// Steps of the sweep.
    sweeps,
    /// Deliveries that the sweep removed.
    swept,
    /// Times that the file was damaged while it was not open.
    damaged,
    /// Of them, starts that were refused.
    damage_refused,
    /// Of them, runs that could not be followed further, since what is kept in memory was damaged.
    damage_not_followed,
    /// Deliveries that damage touched.
    touched,
    /// Of them, those that ended for that reason.
    ended_as_damaged,
    /// Simulated time, in milliseconds.
    simulated_ms,
}

//! Counts over one run, and over many.

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts over one run, and over many.
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
pub(crate) use tally;

tally! {
    /// Announced commits.
    commits,
    /// Requests that reached receivers.
    requests,
    /// Of these, repeats of the same attempt after a crash.
    repeated,
    /// Acknowledged events.
    acknowledged,
    /// Created deliveries.
    deliveries,
    /// Kills of the daemon.
    crashes,
    /// Orderly stops of the daemon.
    stops,
    /// Failed commits.
    failed_commits,
    /// Jumps of the wall clock.
    jumps,
    /// Checks of everything.
    checks,
    /// Folds of the journal into a generation.
    folds,
    /// Generations that were dropped after retention.
    generations_dropped,
    /// Steps of the sweep.
    sweeps,
    /// Deliveries that the sweep removed.
    swept,
    /// How often the file was damaged while it was closed.
    damaged,
    /// Of these, refused starts.
    damage_refused,
    /// Of these, runs that could not be followed further because the state that is kept in memory was damaged.
    damage_not_followed,
    /// Deliveries that damage affected.
    touched,
    /// Of these, deliveries that ended for that reason.
    ended_as_damaged,
    /// Simulated time, in milliseconds.
    simulated_ms,
}

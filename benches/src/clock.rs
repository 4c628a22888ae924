//! The two clocks of a benchmark. `CLOCK_MONOTONIC` is the same for all processes of a machine, so a time
//! taken in the load generator can be subtracted from one taken in the sink; the standard library's `Instant`
//! can't be sent to another process.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, comparable between processes.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Seconds since `earlier_ns`.
pub(crate) fn seconds_since(earlier_ns: u64) -> f64 {
    seconds_between(earlier_ns, monotonic_ns())
}

/// Seconds from one reading to a later one.
pub(crate) fn seconds_between(earlier_ns: u64, later_ns: u64) -> f64 {
    std::time::Duration::from_nanos(later_ns.saturating_sub(earlier_ns)).as_secs_f64()
}

/// Unix time in seconds, for checking signatures.
pub(crate) fn unix_s() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

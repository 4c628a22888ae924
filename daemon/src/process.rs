//! What the system says about this process. It is read when the daemon starts, before the sandbox hides it.

use std::sync::LazyLock;

/// The number of ticks per second in `/proc` (USER_HZ), whatever the kernel's own rate.
const TICKS_PER_SECOND: u64 = 100;

static STARTED: LazyLock<Option<String>> = LazyLock::new(|| {
    let process = std::fs::read_to_string("/proc/self/stat").ok()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    start_in(&process, &system)
});

static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

/// Reads it. Later reads may be refused.
pub(crate) fn read() {
    LazyLock::force(&STARTED);
    LazyLock::force(&CORES);
}

/// Returns when the process started, in seconds since 1970; `None` if the system doesn't report it.
pub(crate) fn started() -> Option<&'static str> {
    STARTED.as_deref()
}

/// Returns how many cores it may use: a control group may allow fewer than there are.
pub(crate) fn cores() -> usize {
    *CORES
}

/// Computed from `/proc/self/stat`, whose 22nd field counts ticks since the system started (proc(5)), and `/proc/stat`.
fn start_in(process: &str, system: &str) -> Option<String> {
    // The second field is the command in parentheses, which may contain anything.
    let (_, fields) = process.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let boot_s: u64 = boot.trim().parse().ok()?;
    let seconds = boot_s.checked_add(ticks / TICKS_PER_SECOND)?;
    Some(format!("{seconds}.{:02}", ticks % TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_read_behind_whatever_the_command_is_called() {
        let process = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 431477 20";
        let system = "cpu  1 2 3\nbtime 1795702861\nprocesses 9\n";
        assert_eq!(start_in(process, system).as_deref(), Some("1795707175.77"));
        assert_eq!(start_in("", system), None);
    }
}

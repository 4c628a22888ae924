//! The kernel's figures about a process: CPU time, memory, bytes written, context switches. All come from
//! `/proc/<pid>`, read from outside, so the daemon isn't asked about itself.

use std::path::Path;

use crate::error::{BenchError, Doing, Result};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).doing(format!("reading {path}"))
}

/// Returns the number after `name` in a file of `name: value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn field_of(path: &str, name: &str) -> Result<u64> {
    let text = read(path)?;
    field(&text, name).ok_or_else(|| BenchError::wrong(format!("{path} has no line {name}")))
}

/// The fields of proc(5)'s `stat` from `first` on, counted from 1, as numbers. They are counted from after the program's
/// name, which may contain spaces.
fn numbers(stat: &str, first: usize) -> impl Iterator<Item = u64> {
    // The name is the second field, so the first one behind it is the third.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let fields = behind_name.split_whitespace().skip(first.saturating_sub(3));
    fields.map_while(|field| field.parse().ok())
}

/// User and system time since the start, in clock ticks.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = numbers(stat, 14);
    Some(fields.next()? + fields.next()?)
}

/// The same with that of children that have ended.
fn ticks_with_ended(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = numbers(stat, 14).take(4).collect();
    (fields.len() == 4).then(|| fields.iter().sum())
}

fn microseconds(ticks: u64) -> u64 {
    ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// CPU time since the start, in microseconds, with the resolution of a clock tick (10 ms).
pub(crate) fn cpu_us(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let ticks = ticks(&read(&path)?)
        .ok_or_else(|| BenchError::wrong(format!("{path} isn't as proc(5) says")))?;
    Ok(microseconds(ticks))
}

/// The same of a process and its children, including those that have ended: PostgreSQL has a process for each connection.
pub(crate) fn family_cpu_us(pid: u32) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir("/proc").doing("listing /proc")? {
        let path = entry.doing("listing /proc")?.path().join("stat");
        // Not a process, or one that has just ended: its time is then in its parent's.
        let Ok(stat) = std::fs::read_to_string(&path) else {
            continue;
        };
        let is_own = stat.split_whitespace().next() == Some(pid.to_string().as_str());
        if is_own || numbers(&stat, 4).next() == Some(u64::from(pid)) {
            total += ticks_with_ended(&stat).unwrap_or(0);
        }
    }
    Ok(microseconds(total))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) rss_bytes: u64,
    /// The most that was resident since the start.
    pub(crate) peak_bytes: u64,
    /// Resident now, with shared pages counted proportionally.
    pub(crate) pss_bytes: u64,
}

/// Returns the current memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = format!("/proc/{pid}/status");
    Ok(Memory {
        rss_bytes: field_of(&status, "VmRSS")? * 1_024,
        peak_bytes: field_of(&status, "VmHWM")? * 1_024,
        pss_bytes: field_of(&format!("/proc/{pid}/smaps_rollup"), "Pss")? * 1_024,
    })
}

/// Returns the current number of threads of a process.
pub(crate) fn threads(pid: u32) -> Result<u64> {
    field_of(&format!("/proc/{pid}/status"), "Threads")
}

/// Bytes that all processes have written so far to the disk that holds `folder`. The kernel's count for one
/// process, `write_bytes` of `/proc/<pid>/io`, is several times too high if its page cache holds a file in
/// large folios; it is the fallback if the folder is on no disk.
pub(crate) fn written_bytes(pid: u32, folder: &Path) -> Result<u64> {
    const SECTOR_BYTES: u64 = 512;
    let device = rustix::fs::stat(folder)
        .doing("looking for the bench's disk")?
        .st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let sectors = read("/proc/diskstats")?
        .lines()
        .find_map(|line| sectors_written(line, major, minor));
    match sectors {
        Some(sectors) => Ok(sectors * SECTOR_BYTES),
        None => field_of(&format!("/proc/{pid}/io"), "write_bytes"),
    }
}

/// Sectors written: the tenth field of a disk's line.
fn sectors_written(line: &str, major: u32, minor: u32) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is_it = fields.first()?.parse() == Ok(major) && fields.get(1)?.parse() == Ok(minor);
    is_it.then(|| fields.get(9)?.parse().ok())?
}

/// How often any thread of the process has slept and been woken, or been preempted.
pub(crate) fn switches(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in std::fs::read_dir(&folder).doing(format!("listing {folder}"))? {
        let path = task
            .doing(format!("listing {folder}"))?
            .path()
            .join("status");
        // A thread that has ended has no file any more, and no further switches.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        total += field(&text, "voluntary_ctxt_switches").unwrap_or(0);
        total += field(&text, "nonvoluntary_ctxt_switches").unwrap_or(0);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "77 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks_with_ended(stat), Some(200));
        assert_eq!(numbers(stat, 4).next(), Some(1));
    }

    #[test]
    fn a_disk_is_found_by_its_numbers() {
        let line = " 254       0 vda 10 11 12 13 20 21 22 23 0 24 25 0 0 0 0 26 27";
        assert_eq!(sectors_written(line, 254, 0), Some(22));
        assert_eq!(sectors_written(line, 254, 1), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "VmHWM:\t  300 kB\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(field(text, "VmHWM"), Some(300));
        assert_eq!(field(text, "voluntary_ctxt_switches"), Some(12));
        assert_eq!(field(text, "Vm"), None);
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().rss_bytes > 0);
        assert!(switches(pid).unwrap() > 0);
        cpu_us(pid).unwrap();
        assert!(family_cpu_us(pid).unwrap() >= cpu_us(pid).unwrap());
    }
}

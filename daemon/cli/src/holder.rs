//! Which process has a file open, as far as the system shows it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a process has a file open, according to `/proc` (proc_pid_fd(5)); false if that isn't readable.
pub(crate) fn holds(process: i32, file: &Path) -> bool {
    let Ok(file) = file.metadata() else {
        return false;
    };
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    open.flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
}

/// Returns a process that has a file open, if the system shows one.
pub(crate) fn holder_of(file: &Path) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|process| i32::try_from(std::process::id()) != Ok(*process) && holds(*process, file))
}

//! How much room there is for the file. What follows from it is the committer's decision.

use std::path::Path;

/// What the disk and the file are like.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// How much may be written until nothing but `limits.disk_reserve` is left.
    pub free_bytes: u64,
    /// The length of the file.
    pub file_bytes: u64,
}

impl Space {
    /// As it is now, where so much is to be left.
    pub fn of(path: &Path, reserve_bytes: u64) -> Self {
        let free_bytes = path.parent().map_or(u64::MAX, free_bytes);
        Self {
            free_bytes: free_bytes.saturating_sub(reserve_bytes),
            file_bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        }
    }
}

/// Free space on the disk of a folder; where the system doesn't say, as much as one likes.
pub(crate) fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

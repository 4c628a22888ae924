//! Free space on the disk of the store, and the length of its file.

use std::path::Path;
use stormhook_engine::writer::Space;

/// As it is now, if this much is to be left free.
pub(crate) fn of(path: &Path, reserve_bytes: u64) -> Space {
    let free_bytes = path.parent().map_or(u64::MAX, free_bytes);
    Space {
        free_bytes: free_bytes.saturating_sub(reserve_bytes),
        file_bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
    }
}

/// Free space on the disk of a folder, in bytes. If the system does not say, the most there can be.
pub(crate) fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

//! The space that is left for the file. The committer decides what follows from it.

/// Free space, and the length of the file.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// How much may be written until only the configured reserve is left, in bytes.
    pub free_bytes: u64,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
}

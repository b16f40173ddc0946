//! Identity of a file, whatever its name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Device and inode number of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// Device number, as `stat` gives it.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
}

impl FileId {
    /// Returns the identity in the answer of a `stat`.
    pub fn of(metadata: &Metadata) -> Self {
        Self { dev: metadata.dev(), inode: metadata.ino() }
    }
}

//! Limits of a log's size and number of parts.

/// Older parts that one log can have; libvirt's value.
pub const BACKUPS_MAX: u64 = 32;

/// Limits of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one file; 0: no limit, and no rotation.
    pub size_bytes_max: u64,
    /// Older parts kept beside the file, at most [`BACKUPS_MAX`].
    pub backups_max: u64,
}

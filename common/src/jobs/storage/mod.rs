//! Ids of file systems, found without asking a file system. Whatever hangs, hangs for all jobs of
//! an id.

mod mounts;
mod remote;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::sys::file_id::FileId;

pub(crate) use mounts::{Mounts, Start, Table, plain};
pub use remote::RemoteMount;

/// A file system, or an approximation of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorageId(u64);

impl StorageId {
    /// The user and group databases.
    pub(crate) const NAMES: Self = Self(0);
    /// systemd, for questions about our unit.
    pub(crate) const SYSTEMD: Self = Self(1);

    /// Returns the id of the file system with this device number.
    #[must_use]
    pub fn device(number: u64) -> Self {
        Self::mixed(0, number)
    }

    /// Returns the id of the storage that a file is on.
    #[must_use]
    pub fn of_file(file: FileId) -> Self {
        Self::device(if file.is_device() { file.number } else { file.device })
    }

    /// Returns an id for long work on a directory's files, so that nothing else waits for it.
    #[must_use]
    pub fn alone(directory: &Path) -> Self {
        Self::hashed(&(2, directory.as_os_str()))
    }

    /// Returns an id for the files of a setting of the daemon's own log.
    pub(crate) fn own_log(setting: &str) -> Self {
        Self::hashed(&(3, setting))
    }

    /// Returns an id for what a peer can block, such as its pipe.
    pub(crate) fn peer(number: u64) -> Self {
        Self::mixed(4, number)
    }

    /// Returns an id for a file's directory, by its name, where the mount table is unknown.
    fn directory_of(file: &Path) -> Self {
        Self::hashed(&(1, file.parent().unwrap_or(file).as_os_str()))
    }

    /// Mixes a number, as `SplitMix64` does: it is asked for with every line of a guest's.
    const fn mixed(kind: u64, number: u64) -> Self {
        let mut mixed = number.wrapping_add((kind + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed ^ (mixed >> 31))
    }

    /// A collision of hashes merges two ids, which does no harm.
    fn hashed(what: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Self(hasher.finish())
    }

    #[cfg(test)]
    pub(crate) const fn of(number: u64) -> Self {
        Self(number)
    }
}

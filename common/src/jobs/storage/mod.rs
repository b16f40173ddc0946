//! Where files are, as far as that is known without asking a file system: what hangs, hangs for all
//! jobs of a place.

mod mounts;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

pub(crate) use mounts::{Mounts, Start, Table, plain};

/// A file system, or what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorageId(u64);

impl StorageId {
    /// The databases of users and groups.
    pub(crate) const NAMES: Self = Self(0);
    /// systemd, to be asked about our unit.
    pub(crate) const SYSTEMD: Self = Self(1);

    /// The file system with this device number.
    #[must_use]
    pub fn device(number: u64) -> Self {
        Self::hashed(&(0, number))
    }

    /// A place for work on a directory that goes through many files: nothing else waits for all of it.
    #[must_use]
    pub fn alone(directory: &Path) -> Self {
        Self::hashed(&(2, directory.as_os_str()))
    }

    /// The files of a setting of the daemon's own log.
    pub(crate) fn own_log(setting: &str) -> Self {
        Self::hashed(&(3, setting))
    }

    /// Something that a peer can lock, such as its pipe.
    pub(crate) fn peer(number: u64) -> Self {
        Self::hashed(&(4, number))
    }

    /// The directory that a file is in, by its name, where nothing is known of mounts.
    fn directory_of(file: &Path) -> Self {
        Self::hashed(&(1, file.parent().unwrap_or(file).as_os_str()))
    }

    /// Two places that have one number by chance are one place, which does no harm.
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

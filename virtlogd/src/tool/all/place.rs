//! Places in a log: a file, by what tells it from all others, and an offset in it.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use common::sys::file_id::FileId;
use serde::{Deserialize, Serialize};

use super::super::parts::backup;

/// Older parts that a log can have.
pub(super) const BACKUPS_MAX: u64 = crate::rotating_file::BACKUPS_MAX;

/// What tells a file from others, also from a later one that has its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// Time of birth, where the file system knows that.
    born_unix_ns: Option<u64>,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) file: Identity,
    pub(super) offset: u64,
}

/// A part of a log that was found at its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Number of the older part; `None` for the log itself.
    pub(super) index: Option<u64>,
    pub(super) file: Identity,
    pub(super) len: u64,
    changed: Option<SystemTime>,
}

impl Identity {
    /// Returns the identity in the metadata of a file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let FileId { device, number } = FileId::of(metadata);
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_unix_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok());
        Self { device, inode: number, born_unix_ns }
    }

    /// Returns whether it may have been made after another file of the log: it is not known to be
    /// older.
    pub(super) fn may_follow(&self, other: &Self) -> bool {
        match (self.born_unix_ns, other.born_unix_ns) {
            (Some(born), Some(before)) => born >= before,
            _ => true,
        }
    }

    /// Returns the place at its start.
    pub(super) fn start(self) -> Place {
        Place { file: self, offset: 0 }
    }
}

impl Found {
    /// Looks at a part by its path, without opening it.
    pub(super) fn at(path: &Path, index: Option<u64>) -> Option<Self> {
        let part = index.and_then(|index| usize::try_from(index).ok());
        let metadata = match part {
            Some(number) => fs::metadata(backup(path, number)),
            None => fs::metadata(path),
        };
        let metadata = metadata.ok()?;
        let (file, len) = (Identity::of(&metadata), metadata.len());
        Some(Self { index, file, len, changed: metadata.modified().ok() })
    }

    /// Looks at the log and its older parts, the newest first. Rotation moves them up one after the
    /// other, from the oldest on, so none is overlooked, but one may be met twice, and there may be a
    /// gap.
    pub(super) fn all(path: &Path, backups_max: u64) -> Vec<Self> {
        let indexes = (0..backups_max.min(BACKUPS_MAX)).map(Some);
        let mut all: Vec<Self> = Vec::new();
        for found in [None].into_iter().chain(indexes).filter_map(|index| Self::at(path, index)) {
            if all.iter().all(|other| other.file != found.file) {
                all.push(found);
            }
        }
        all
    }

    /// Returns the place at its end.
    pub(super) fn end(&self) -> Place {
        Place { file: self.file, offset: self.len }
    }

    /// Returns whether it was changed since then, as far as that is known.
    pub(super) fn is_changed_since(&self, time: SystemTime) -> bool {
        self.changed.is_none_or(|changed| changed >= time)
    }
}

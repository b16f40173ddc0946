//! Budget of a directory: the bytes that logs may take in it, and those that its file system is to have
//! free.
//!
//! What is too much is taken from the older parts, PATH.0 to PATH.N, those of logs that nobody writes
//! first, and of each log the highest number first: readers stop at the first gap. A log itself is never
//! removed. Names are told as in a [pass](super::pass) over old logs; links are not followed.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::sys::file_id::FileId;
use fs2::FileExt;

use super::chain::head_and_number;
use super::heads::Heads;
use crate::rotating_file::{Deletion, Directory, is_open};

/// Logs and older parts of one directory that are counted: see the limit of a pass.
const FILES_MAX: usize = 262_144;

/// Files that are removed before logs on the same file system have had their turn again.
const REMOVALS_MAX: usize = 64;

/// The budget of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The directory.
    pub path: PathBuf,
    /// Bytes on the disk that logs and their older parts may take.
    pub bytes_max: Option<u64>,
    /// Bytes that the file system is to have free.
    pub free_bytes_min: Option<u64>,
}

/// Result of a look at a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Files removed.
    pub removed: usize,
    /// The file system had less free than it is to have.
    pub is_low: bool,
    /// Something is still too much, and there is nothing left to remove.
    pub is_exhausted: bool,
    /// There is more to remove.
    pub has_more: bool,
}

/// An older part.
struct Backup {
    name: OsString,
    head: OsString,
    number: u64,
    id: FileId,
    mtime_s: i64,
    bytes: u64,
}

/// What was found in a directory.
#[derive(Default)]
struct Found {
    /// Bytes of all logs and older parts.
    bytes: u64,
    backups: Vec<Backup>,
    /// Names of open logs.
    open: HashSet<OsString>,
}

impl Budget {
    /// Removes what is too much. `open` are the paths of the logs that were open when it was asked
    /// for. What cannot be removed is logged, and left.
    ///
    /// # Errors
    /// As `open(2)`, `statvfs(2)` and `readdir(3)`.
    pub fn keep(&self, open: &[PathBuf]) -> io::Result<Kept> {
        let directory = Directory::reach(&self.path)?;
        let missing_bytes = match self.free_bytes_min {
            Some(free_min) => free_min.saturating_sub(directory.available_bytes()?),
            None => 0,
        };
        let is_low = missing_bytes > 0;
        if self.bytes_max.is_none() && !is_low {
            return Ok(Kept::default());
        }
        let found = Found::look(&directory, &self.path, open)?;
        let surplus = self.bytes_max.map_or(0, |max| found.bytes.saturating_sub(max));
        let reason = match (is_low, surplus) {
            (true, _) => "less is free than has to be",
            (false, 1..) => "logs take more than their budget",
            (false, 0) => return Ok(Kept::default()),
        };
        let (removed, left) = self.remove(&directory, found, missing_bytes.max(surplus), reason);
        let has_more = left > 0 && removed == REMOVALS_MAX;
        Ok(Kept { removed, is_low, is_exhausted: left > 0 && !has_more, has_more })
    }

    /// Removes older parts until they had so many `bytes`. Returns how many, and the bytes that are
    /// still too much.
    fn remove(
        &self,
        directory: &Directory,
        found: Found,
        bytes: u64,
        reason: &str,
    ) -> (usize, u64) {
        let Found { mut backups, open, .. } = found;
        backups
            .sort_by_key(|it| (open.contains(&it.head), std::cmp::Reverse(it.number), it.mtime_s));
        // Of these no lower number is removed either.
        let mut kept = HashSet::new();
        let (mut removed, mut left) = (0, bytes);
        for backup in backups {
            if left == 0 || removed == REMOVALS_MAX {
                break;
            }
            if !kept.contains(&backup.head) && self.remove_one(directory, &backup, reason) {
                removed += 1;
                left = left.saturating_sub(backup.bytes);
            } else {
                kept.insert(backup.head);
            }
        }
        (removed, left)
    }

    fn remove_one(&self, directory: &Directory, backup: &Backup, reason: &str) -> bool {
        let path = self.path.join(&backup.name);
        // Nothing is renamed meanwhile.
        let _deletion = Deletion::begin(backup.id.device);
        let is_same = look_at(directory, &backup.name).is_ok_and(|(_, metadata)| {
            FileId::of(&metadata) == backup.id && metadata.mtime() == backup.mtime_s
        });
        if !is_same || is_open(backup.id) {
            return false;
        }
        match directory.remove(&backup.name) {
            Ok(()) => {
                tracing::info!(
                    target: "logging.log_cleaner",
                    "Deleted {} ({} bytes): {reason}", path.display(), backup.bytes
                );
                true
            }
            Err(error) => {
                tracing::warn!(
                    target: "logging.log_cleaner", "Unable to delete {}: {error}", path.display()
                );
                false
            }
        }
    }
}

impl Found {
    fn look(directory: &Directory, path: &Path, open: &[PathBuf]) -> io::Result<Self> {
        let heads = Heads::of(open);
        // The same path as those of the logs.
        let true_path = std::fs::canonicalize(path)?;
        let mut found = Self::default();
        let mut highest: HashMap<OsString, u64> = HashMap::new();
        for name in directory.names()?.take(FILES_MAX) {
            let (name, _) = name?;
            let Some((head, number)) = head_and_number(&name) else { continue };
            // It may have been renamed or removed since.
            let Ok((file, metadata)) = look_at(directory, &name) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let bytes = file.allocated_size()?;
            let id = FileId::of(&metadata);
            found.bytes = found.bytes.saturating_add(bytes);
            if is_open(id) || heads.contains(&true_path.join(&head)) {
                found.open.insert(head.clone());
            }
            // Another name keeps the bytes.
            if let Some(number) = number.filter(|_| metadata.nlink() == 1) {
                let mtime_s = metadata.mtime();
                found.backups.push(Backup { name, head, number, id, mtime_s, bytes });
            } else if let Some(number) = number {
                let highest = highest.entry(head).or_default();
                *highest = number.max(*highest);
            }
        }
        // Nothing is removed below what stays.
        found.backups.retain(|it| highest.get(&it.head).is_none_or(|stays| it.number > *stays));
        Ok(found)
    }
}

/// Opens a file to look at it alone.
fn look_at(directory: &Directory, name: &OsStr) -> io::Result<(File, Metadata)> {
    let file = directory.glance(name)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

#[cfg(test)]
mod tests;

//! Errors of a log file, in libvirt's words.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::server::is_left_behind;
use nix::errno::Errno;

use super::BACKUPS_MAX;

/// Error of a log file. The texts leave the system's reason out, see [`Error::errno`].
#[derive(Debug, thiserror::Error)]
#[error("{}", OsStr::from_bytes(&self.detail()).display())]
#[expect(missing_docs, reason = "`detail` says what the fields are")]
pub enum Error {
    TooManyBackups {
        backups_max: u64,
    },
    Open {
        path: PathBuf,
        source: io::Error,
    },
    Inspect {
        path: PathBuf,
        source: io::Error,
    },
    /// The path leads elsewhere than at OPEN.
    Refused {
        path: PathBuf,
        why: Refusal,
    },
    /// Unlink of a log that is begun anew.
    Delete {
        path: PathBuf,
        source: io::Error,
    },
    /// Unlink of a full file because no older parts are kept.
    Remove {
        path: PathBuf,
        source: io::Error,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        source: io::Error,
    },
    Write {
        path: PathBuf,
        source: io::Error,
    },
    Read {
        path: PathBuf,
        source: io::Error,
    },
    Seek {
        inode: u64,
        offset: u64,
        source: io::Error,
    },
    /// The source of the bytes has failed, not the file.
    Source {
        path: PathBuf,
        source: io::Error,
    },
}

/// Reason why a path is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It leads to a directory of another user.
    #[error("its directory belongs to user {found}, not to user {before} as when it was opened")]
    Owner {
        /// Owner that was found.
        found: u32,
        /// Owner at OPEN.
        before: u32,
    },
    /// It leads through a symbolic link whose maker may not change the directory that is found.
    #[error("another user's symbolic link leads to its directory")]
    Way,
    /// The file itself is such a link, or was none at OPEN.
    #[error("it is a symbolic link")]
    Link,
    /// Another user's file may be among its names.
    #[error("the file has {count} names")]
    Names {
        /// Number of hard links.
        count: u64,
    },
}

impl Refusal {
    fn errno(self) -> Errno {
        match self {
            Self::Owner { .. } => Errno::EPERM,
            Self::Way | Self::Link => Errno::ELOOP,
            Self::Names { .. } => Errno::EMLINK,
        }
    }
}

impl Error {
    /// Returns the system's reason; `None` where the configuration is at fault.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::TooManyBackups { .. } => None,
            Self::Refused { why, .. } => Some(why.errno() as i32),
            Self::Open { source, .. }
            | Self::Inspect { source, .. }
            | Self::Delete { source, .. }
            | Self::Remove { source, .. }
            | Self::Rename { source, .. }
            | Self::Write { source, .. }
            | Self::Read { source, .. }
            | Self::Seek { source, .. }
            | Self::Source { source, .. } => {
                Some(source.raw_os_error().unwrap_or(Errno::EINVAL as i32))
            }
        }
    }

    /// Returns whether the guest has kept the job that takes its bytes for so long that others have
    /// gone on with the same file system: this job may do nothing more to the file.
    pub fn is_left_behind(&self) -> bool {
        matches!(self, Self::Source { source, .. } if is_left_behind(source))
    }

    /// Returns whether a log could not be rotated for a reason that does not pass by waiting, while
    /// it can be written: it is append-only, its directory is not ours, something is mounted on it.
    pub fn is_about_names_for_good(&self) -> bool {
        const LASTING: [Errno; 3] = [Errno::EPERM, Errno::EACCES, Errno::EBUSY];
        let is_lasting = |errno: i32| LASTING.contains(&Errno::from_raw(errno));
        matches!(self, Self::Rename { .. } | Self::Remove { .. })
            && self.errno().is_some_and(is_lasting)
    }

    /// Returns the text with its paths as they are, which need not be UTF-8.
    pub fn detail(&self) -> Vec<u8> {
        match self {
            Self::TooManyBackups { backups_max } => {
                format!("Max backup {backups_max} must be less than or equal to {BACKUPS_MAX}")
                    .into_bytes()
            }
            Self::Open { path, .. } => about("Unable to open file: ", path),
            Self::Refused { path, why } => {
                [about("Refused to open file ", path), format!(": {why}").into_bytes()].concat()
            }
            Self::Inspect { path, .. } => about("Unable to determine current file inode: ", path),
            Self::Delete { path, .. } => about("Unable to delete file ", path),
            Self::Remove { path, .. } => about("Unable to remove ", path),
            Self::Rename { from, to, .. } => {
                [about("Unable to rename ", from), about(" to ", to)].concat()
            }
            Self::Write { path, .. } => about("Unable to write to file ", path),
            Self::Read { path, .. } => about("Unable to read from file ", path),
            Self::Seek { inode, offset, .. } => {
                format!("Unable to seek to inode {inode} offset {offset}").into_bytes()
            }
            Self::Source { path, .. } => about("Unable to look at what waits for file ", path),
        }
    }
}

fn about(text: &str, path: &Path) -> Vec<u8> {
    [text.as_bytes(), path.as_os_str().as_bytes()].concat()
}

//! Identity of a file.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::libc;
use nix::sys::stat::FileStat;

use super::fd::{self, BLOCK_DEVICES};

/// Identity of a file, whatever its name, or of a block device, whatever its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device number of its file system; [`BLOCK_DEVICES`] for a block device.
    pub device: u64,
    /// Inode number; the device's number for a block device.
    pub number: u64,
}

impl FileId {
    /// Returns the identity in the metadata of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        if metadata.file_type().is_block_device() {
            return Self { device: BLOCK_DEVICES, number: metadata.rdev() };
        }
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    /// Returns the identity in the answer of a `stat(2)`.
    #[must_use]
    pub fn of_stat(found: &FileStat) -> Self {
        if found.st_mode & libc::S_IFMT == libc::S_IFBLK {
            return Self { device: BLOCK_DEVICES, number: found.st_rdev };
        }
        Self { device: found.st_dev, number: found.st_ino }
    }

    /// Returns the identity of an open file, without waiting for its file system.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn of_open(file: impl AsFd) -> io::Result<Self> {
        let (device, number) = fd::identity(file)?;
        Ok(Self { device, number })
    }

    /// Returns whether it is a block device.
    #[must_use]
    pub fn is_device(self) -> bool {
        self.device == BLOCK_DEVICES
    }

    /// Returns whether it is what `path` leads to.
    #[must_use]
    pub fn is_at(self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| Self::of(&metadata) == self)
    }
}

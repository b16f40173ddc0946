//! Identity of a file.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use common::server::StorageId;
use common::sys::fd::{self, BLOCK_DEVICES};

/// Identity of a file, whatever its name, or of a block device, whatever its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) number: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        if metadata.file_type().is_block_device() {
            return Self { device: BLOCK_DEVICES, number: metadata.rdev() };
        }
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    /// Returns the identity of an open file, without waiting for its file system.
    pub(crate) fn of_open(file: impl AsFd) -> io::Result<Self> {
        let (device, number) = fd::identity(file)?;
        Ok(Self { device, number })
    }

    pub(crate) fn is_device(self) -> bool {
        self.device == BLOCK_DEVICES
    }

    pub(crate) fn storage(self) -> StorageId {
        StorageId::device(if self.is_device() { self.number } else { self.device })
    }

    pub(crate) fn is_at(self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| Self::of(&metadata) == self)
    }
}

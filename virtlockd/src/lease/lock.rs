//! Lease: acquiring and releasing the lock on a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use common::sys::calls::is_unknown;
use common::sys::file_id::FileId;
use common::sys::lock::{self, Hold, Kind, Mode};
use nix::fcntl::OFlag;

use crate::error::file::{FileError, FileOperation, file_error};
use crate::lease::devices::DeviceClaim;
use crate::lease::inherited_posix_locks::{InheritedPosixLocks, Opened};
use crate::lease::local_locks::LocalLocks;
use crate::protocol::Terms;

/// Permission bits of a new file; libvirt's value.
const FILE_MODE: u32 = 0o600;

/// Attempts to lock a file that is replaced between opening and locking; then it counts as locked.
/// Ours; libvirt's have no limit.
pub(super) const ATTEMPTS_MAX: usize = 100;

/// Locked file, whose lock is released with it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Shared with a job that checks the lock.
    file: Arc<File>,
    file_id: FileId,
    /// An OFD lock where there are any; libvirt's are POSIX locks.
    hold: Hold,
    /// Claim on a block device.
    _claim: Option<Box<DeviceClaim>>,
}

/// Result of an attempt to acquire a lease.
#[derive(Debug)]
pub(super) enum Acquisition {
    Lease(Lease),
    /// The file is locked by another, or was replaced at every attempt (`None`).
    Busy(Option<FileId>),
}

impl Lease {
    /// Returns the identity of the file.
    pub(crate) fn file_id(&self) -> FileId {
        self.file_id
    }

    /// Creates a lease that an earlier process has acquired.
    pub(crate) fn adopted(
        locks: &LocalLocks,
        file: File,
        file_id: FileId,
        mode: Mode,
        hold: Hold,
    ) -> Self {
        locks.posix.add(file_id, mode, hold);
        let claim = file_id.is_device().then(|| Box::new(locks.devices.adopt(file_id, mode)));
        Self { file: Arc::new(file), file_id, hold, _claim: claim }
    }

    /// Returns the locked file.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Sets what there is of the lock.
    pub(crate) fn set_lock(&mut self, hold: Hold) {
        self.hold = hold;
    }

    /// Returns the locked file, and what there is of its lock.
    pub(crate) fn lock(&self) -> (BorrowedFd<'_>, Hold) {
        (self.file.as_fd(), self.hold)
    }

    pub(super) fn acquire_without_links(
        locks: &LocalLocks,
        path: &Path,
        terms: Terms,
    ) -> Option<Result<Acquisition, FileError>> {
        if terms.autocreate {
            return None;
        }
        let opened = locks.posix.open_without_links(path)?;
        Some(opened.map_err(file_error(FileOperation::Open, path)).and_then(
            |opened| match opened {
                Opened::File(file, file_id) => Self::take(locks, file, file_id, path, terms.mode()),
                Opened::Locked(file_id) => Ok(Acquisition::Busy(Some(file_id))),
            },
        ))
    }

    pub(super) fn acquire(
        locks: &LocalLocks,
        path: &Path,
        terms: Terms,
    ) -> Result<Acquisition, FileError> {
        let mode = terms.mode();
        let attempt =
            if terms.autocreate { FileOperation::OpenOrCreate } else { FileOperation::Open };
        let mut options = options();
        options.read(true).write(true);
        for _ in 0..ATTEMPTS_MAX {
            let opened = locks.posix.open(&options, terms.autocreate, path);
            let (file, file_id) = match opened.map_err(file_error(attempt, path))? {
                Opened::File(file, file_id) => (file, file_id),
                Opened::Locked(file_id) => return Ok(Acquisition::Busy(Some(file_id))),
            };
            if !terms.autocreate {
                return Self::take(locks, file, file_id, path, mode);
            }
            if let Some(done) = Self::take_if_at(locks, file, file_id, path, mode)? {
                return Ok(done);
            }
        }
        Ok(Acquisition::Busy(None))
    }

    /// Locks an open file. Returns `None` if it is not the one at `path` any more, as its last
    /// holder may have removed it after it was opened.
    pub(super) fn take_if_at(
        locks: &LocalLocks,
        file: File,
        file_id: FileId,
        path: &Path,
        mode: Mode,
    ) -> Result<Option<Acquisition>, FileError> {
        Ok(match Self::take(locks, file, file_id, path, mode)? {
            Acquisition::Lease(lease) if !lease.file_id.is_at(path) => {
                lease.unlock(locks, path, mode);
                None
            }
            done => Some(done),
        })
    }

    pub(super) fn take(
        locks: &LocalLocks,
        file: File,
        file_id: FileId,
        path: &Path,
        mode: Mode,
    ) -> Result<Acquisition, FileError> {
        let (locked, kind) = match lock::try_lock(&file, Kind::Ofd, mode) {
            Err(error) if is_unknown(&error) => {
                (locks.posix.lock(file_id, file, mode), Kind::Posix)
            }
            locked => (locked.map(|locked| locked.then_some(file)), Kind::Ofd),
        };
        let Some(file) = locked.map_err(file_error(FileOperation::Lock, path))? else {
            return Ok(Acquisition::Busy(Some(file_id)));
        };
        let claim = file_id.is_device().then(|| locks.devices.claim(file_id, mode).map(Box::new));
        let is_excluded = matches!(claim, Some(None));
        let hold = Hold::Whole(kind);
        let lease = Self { file: Arc::new(file), file_id, hold, _claim: claim.flatten() };
        Ok(if is_excluded {
            lease.unlock(locks, path, mode);
            Acquisition::Busy(Some(file_id))
        } else {
            Acquisition::Lease(lease)
        })
    }

    /// Releases the lease. An automatic file is removed first, while the lock keeps others off it,
    /// if this is its last lease: then the lock can be had exclusively.
    pub(super) fn release(self, locks: &LocalLocks, path: &Path, terms: Terms) {
        if terms.autocreate
            && ((!terms.shared && self.hold.is_whole()) || self.can_be_exclusive(&locks.posix))
            && self.file_id.is_at(path)
            && let Err(error) = remove(path)
        {
            tracing::warn!(target: "util.lockspace", "{}", error.to_rpc().message());
        }
        self.unlock(locks, path, terms.mode());
    }

    /// Unlocks the file. Closing it is not enough if another process, such as the supervisor, has a
    /// duplicate of the fd.
    pub(super) fn unlock(self, locks: &LocalLocks, path: &Path, mode: Mode) {
        if let Err(error) = locks.posix.release(self.file_id, self.file, mode, self.hold) {
            tracing::error!(
                target: "util.lockspace", "Unable to unlock {}: {error}", path.display()
            );
        }
    }

    /// Returns whether no other lease shares the file. POSIX locks of this process do not exclude
    /// each other.
    fn can_be_exclusive(&self, posix: &InheritedPosixLocks) -> bool {
        let kind = if self.hold.is_posix() { Kind::Posix } else { Kind::Ofd };
        let is_alone = kind == Kind::Ofd || posix.is_last(self.file_id);
        is_alone && matches!(lock::try_lock(&*self.file, kind, Mode::Exclusive), Ok(true))
    }
}

/// Returns options for opening without waiting, whatever a name leads to, and without getting a
/// terminal.
pub(super) fn options() -> OpenOptions {
    let mut options = File::options();
    options.truncate(false).mode(FILE_MODE);
    options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    options
}

/// Removes a file, which may be missing already.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_error(FileOperation::Delete, path)(error))
        }
        _ => Ok(()),
    }
}

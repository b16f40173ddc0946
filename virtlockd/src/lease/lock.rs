//! Lease: a locked file, how it is acquired and released.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use common::sys::calls::is_unknown;
use common::sys::lock::{self, Hold, Kind, Mode};
use nix::fcntl::OFlag;

use crate::error::file::{Attempt, Failure, failure};
use crate::lease::devices::Claim;
use crate::lease::inode::Inode;
use crate::lease::local_locks::Files;
use crate::lease::posix_locks::{Opened, PosixFiles};
use crate::protocol::Terms;

/// Permission bits of a file that we make, libvirt's value.
const FILE_MODE: u32 = 0o600;

/// How often a file may vanish between opening and locking it before the resource counts as
/// locked. Ours; libvirt tries without end.
pub(super) const ATTEMPTS_MAX: usize = 100;

/// A locked file. The lock goes with it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Shared with a job that changes the lock's kind.
    file: Arc<File>,
    inode: Inode,
    /// Ours are OFD locks where there can be any, libvirt's POSIX ones.
    hold: Hold,
    /// Of a block device.
    _claim: Option<Box<Claim>>,
}

/// Result of an attempt to acquire a lease.
#[derive(Debug)]
pub(super) enum Acquisition {
    Lease(Lease),
    /// The file is locked by another, or was replaced at every attempt (`None`).
    Busy(Option<Inode>),
}

impl Lease {
    /// Which file it is.
    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// A lease that an earlier image of this process has taken.
    pub(crate) fn adopted(files: &Files, file: File, inode: Inode, mode: Mode, hold: Hold) -> Self {
        files.posix.add(inode, mode, hold);
        let claim = inode.is_device().then(|| Box::new(files.devices.adopt(inode, mode)));
        Self { file: Arc::new(file), inode, hold, _claim: claim }
    }

    /// Returns the locked file.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// There is so much of its lock by now.
    pub(crate) fn settled(&mut self, hold: Hold) {
        self.hold = hold;
    }

    /// The locked file, and how it is locked.
    pub(crate) fn lock(&self) -> (BorrowedFd<'_>, Hold) {
        (self.file.as_fd(), self.hold)
    }

    pub(super) fn acquire_without_links(
        files: &Files,
        path: &Path,
        terms: Terms,
    ) -> Option<Result<Acquisition, Failure>> {
        if terms.autocreate {
            return None;
        }
        let opened = files.posix.open_without_links(path)?;
        Some(opened.map_err(failure(Attempt::Open, path)).and_then(|opened| match opened {
            Opened::File(file, inode) => Self::take(files, file, inode, path, terms.mode()),
            Opened::Locked(inode) => Ok(Acquisition::Busy(Some(inode))),
        }))
    }

    pub(super) fn acquire(
        files: &Files,
        path: &Path,
        terms: Terms,
    ) -> Result<Acquisition, Failure> {
        let mode = terms.mode();
        let attempt = if terms.autocreate { Attempt::OpenOrCreate } else { Attempt::Open };
        let mut options = options();
        options.read(true).write(true);
        for _ in 0..ATTEMPTS_MAX {
            let opened = files.posix.open(&options, terms.autocreate, path);
            let (file, inode) = match opened.map_err(failure(attempt, path))? {
                Opened::File(file, inode) => (file, inode),
                Opened::Locked(inode) => return Ok(Acquisition::Busy(Some(inode))),
            };
            if !terms.autocreate {
                return Self::take(files, file, inode, path, mode);
            }
            if let Some(done) = Self::take_if_at(files, file, inode, path, mode)? {
                return Ok(done);
            }
        }
        Ok(Acquisition::Busy(None))
    }

    /// Gives `None` when the open file is not the one at `path` any more: who had it before may
    /// have removed it since it was opened.
    pub(super) fn take_if_at(
        files: &Files,
        file: File,
        inode: Inode,
        path: &Path,
        mode: Mode,
    ) -> Result<Option<Acquisition>, Failure> {
        Ok(match Self::take(files, file, inode, path, mode)? {
            Acquisition::Lease(lease) if !lease.inode.is_at(path) => {
                lease.unlock(files, path, mode);
                None
            }
            done => Some(done),
        })
    }

    pub(super) fn take(
        files: &Files,
        file: File,
        inode: Inode,
        path: &Path,
        mode: Mode,
    ) -> Result<Acquisition, Failure> {
        let (locked, kind) = match lock::try_lock(&file, Kind::Ofd, mode) {
            Err(error) if is_unknown(&error) => (files.posix.lock(inode, file, mode), Kind::Posix),
            locked => (locked.map(|locked| locked.then_some(file)), Kind::Ofd),
        };
        let Some(file) = locked.map_err(failure(Attempt::Lock, path))? else {
            return Ok(Acquisition::Busy(Some(inode)));
        };
        let claim = inode.is_device().then(|| files.devices.claim(inode, mode).map(Box::new));
        let is_excluded = matches!(claim, Some(None));
        let hold = Hold::Whole(kind);
        let lease = Self { file: Arc::new(file), inode, hold, _claim: claim.flatten() };
        Ok(if is_excluded {
            lease.unlock(files, path, mode);
            Acquisition::Busy(Some(inode))
        } else {
            Acquisition::Lease(lease)
        })
    }

    /// A file made automatically is removed while the lock still keeps others off it. Its last
    /// lock is known by this: it can be had exclusively.
    pub(super) fn release(self, files: &Files, path: &Path, terms: Terms) {
        if terms.autocreate
            && ((!terms.shared && self.hold.is_whole()) || self.can_be_exclusive(&files.posix))
            && self.inode.is_at(path)
            && let Err(failure) = remove(path)
        {
            tracing::warn!(target: "util.lockspace", "{}", failure.to_rpc().message());
        }
        self.unlock(files, path, terms.mode());
    }

    /// Closing is not enough when somebody, such as a supervisor, has a duplicate of the fd.
    pub(super) fn unlock(self, files: &Files, path: &Path, mode: Mode) {
        if let Err(error) = files.posix.release(self.inode, self.file, mode, self.hold) {
            tracing::error!(
                target: "util.lockspace", "Unable to unlock {}: {error}", path.display()
            );
        }
    }

    /// A POSIX lock stands against nobody in this process.
    fn can_be_exclusive(&self, posix: &PosixFiles) -> bool {
        let kind = if self.hold.is_posix() { Kind::Posix } else { Kind::Ofd };
        let is_alone = kind == Kind::Ofd || posix.is_last(self.inode);
        is_alone && matches!(lock::try_lock(&*self.file, kind, Mode::Exclusive), Ok(true))
    }
}

/// Opening never waits, whatever a name leads to, and gives us no terminal.
pub(super) fn options() -> OpenOptions {
    let mut options = File::options();
    options.truncate(false).mode(FILE_MODE);
    options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    options
}

/// It may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure(Attempt::Delete, path)(error))
        }
        _ => Ok(()),
    }
}

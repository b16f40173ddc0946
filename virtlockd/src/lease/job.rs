//! Jobs on the files that clients name.
//!
//! A job owns what it works on and returns it in the [`JobResult`], so it can run on any thread.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::server::StorageId;
use common::sys::file;
use common::sys::file_id::FileId;
use common::sys::lock::{Hold, Mode};

use crate::error::file::{FileError, FileOperation, file_error, is_lease_break, is_shortage};
use crate::lease::inherited_posix_locks::{InheritedPosixLocks, Opened};
use crate::lease::local_locks::LocalLocks;
use crate::lease::lock::{ATTEMPTS_MAX, Acquisition, Lease, options, remove};
use crate::protocol::Terms;

/// Job on the file of one resource.
#[derive(Debug)]
pub(crate) enum Job {
    /// Opens and locks the file.
    Acquire { path: Arc<Path>, terms: Terms },
    /// Checks whether the path still leads to the leased file.
    CheckPath { path: Arc<Path>, file_id: FileId },
    /// Unlocks the file. Removes it too if the terms say so and no other lease shares it.
    Release { lease: Lease, path: Arc<Path>, terms: Terms },
    /// Creates the file.
    Create { path: Arc<Path> },
    /// Removes the file unless it is locked, under whatever name.
    Delete { path: Arc<Path> },
    /// Checks the lock and takes what is missing. With `convert_to_ofd` the lock becomes one that
    /// does not end with this process.
    CheckLock { file: Arc<File>, file_id: FileId, lease: (Mode, Hold), convert_to_ofd: bool },
    /// Reads a byte, which the kernel's NFS client refuses once it has lost the lock.
    TestLock { file: Arc<File>, file_id: FileId },
}

/// Location of a job, as far as it is known.
#[derive(Debug)]
pub(crate) enum Location {
    Storage(StorageId),
    /// Where this path leads.
    Path(Arc<Path>),
}

/// Result of a job.
#[derive(Debug)]
pub(crate) enum JobResult {
    /// The file is locked.
    Acquired(Lease),
    /// The file is locked by another, or was replaced at every attempt (`None`).
    Busy(Option<FileId>),
    /// The path leads to the leased file.
    SameFile,
    /// The file is unlocked, created or removed.
    Finished,
    /// The lock is as given.
    LockChecked(Hold),
    /// The number of bytes that were read, none of an empty file, or why that has failed.
    LockTested(io::Result<usize>),
    /// The operation failed and has changed nothing.
    Failed(FileError),
    /// The operation failed and has changed nothing. It may succeed soon: the kernel has told
    /// another process to give up its `fcntl(2)` lease on the file.
    LeaseBreak(FileError),
}

impl Job {
    /// Returns where the job is to be done.
    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Release { lease, .. } => Location::Storage(StorageId::of_file(lease.file_id())),
            Self::CheckLock { file_id, .. } | Self::TestLock { file_id, .. } => {
                Location::Storage(StorageId::of_file(*file_id))
            }
            Self::Acquire { path, .. }
            | Self::CheckPath { path, .. }
            | Self::Create { path }
            | Self::Delete { path } => Location::Path(Arc::clone(path)),
        }
    }

    /// Does a job that takes no more than opening a file to which no symbolic link leads. Returns
    /// `None` if nothing was done.
    pub(crate) fn try_without_links(&self, locks: &LocalLocks) -> Option<JobResult> {
        let Self::Acquire { path, terms } = self else { return None };
        let acquired = Lease::acquire_without_links(locks, path, *terms)?;
        Some(job_result(acquired.map(JobResult::from)))
    }

    /// Does the job.
    pub(crate) fn run(self, locks: &LocalLocks) -> JobResult {
        let result = match self {
            Self::Acquire { path, terms } => {
                Lease::acquire(locks, &path, terms).map(JobResult::from)
            }
            Self::CheckPath { path, file_id } => check_path(&path, file_id),
            Self::Release { lease, path, terms } => {
                lease.release(locks, &path, terms);
                Ok(JobResult::Finished)
            }
            Self::Create { path } => create(locks, &path).map(|()| JobResult::Finished),
            Self::Delete { path } => delete(locks, &path),
            Self::TestLock { file, .. } => Ok(JobResult::LockTested(file::read_byte_anew(&*file))),
            Self::CheckLock { file, file_id, lease, convert_to_ofd } => {
                Ok(check_lock(&locks.posix, &file, file_id, lease, convert_to_ofd))
            }
        };
        job_result(result)
    }
}

impl From<Acquisition> for JobResult {
    fn from(acquisition: Acquisition) -> Self {
        match acquisition {
            Acquisition::Lease(lease) => Self::Acquired(lease),
            Acquisition::Busy(file_id) => Self::Busy(file_id),
        }
    }
}

fn job_result(result: Result<JobResult, FileError>) -> JobResult {
    result.unwrap_or_else(|error| match error.is_lease_break() {
        true => JobResult::LeaseBreak(error),
        false => JobResult::Failed(error),
    })
}

/// Checks that `path` leads to the leased file. Sharing the lease of a file that was replaced would
/// leave the new one unlocked.
fn check_path(path: &Path, file_id: FileId) -> Result<JobResult, FileError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(FileId::of(&result.map_err(file_error(FileOperation::Open, path))?)),
    };
    if found == Some(file_id) {
        return Ok(JobResult::SameFile);
    }
    tracing::warn!(
        target: "util.lockspace",
        "{} was replaced after it was leased; its lease cannot be shared", path.display()
    );
    Ok(JobResult::Busy(Some(file_id)))
}

/// Checks a lock, which stays as it was known on an error.
fn check_lock(
    posix: &InheritedPosixLocks,
    file: &File,
    file_id: FileId,
    lease: (Mode, Hold),
    convert_to_ofd: bool,
) -> JobResult {
    JobResult::LockChecked(posix.check_lock(file_id, file, lease, convert_to_ofd).unwrap_or_else(
        |error| {
            tracing::error!(
                target: "util.lockspace",
                "Unable to check the lock on inode {} of device {}: {error}",
                file_id.number, file_id.device
            );
            lease.1
        },
    ))
}

fn create(locks: &LocalLocks, path: &Path) -> Result<(), FileError> {
    let opened = locks.posix.open(options().write(true), true, path);
    let opened = opened.map_err(file_error(FileOperation::Create, path))?;
    if let Opened::File(file, file_id) = opened {
        locks.posix.close(file_id, file);
    }
    Ok(())
}

/// Removes a file while it is locked, so that no lease under another name is left without a file. A
/// file that cannot be opened has no lease.
fn delete(locks: &LocalLocks, path: &Path) -> Result<JobResult, FileError> {
    for _ in 0..ATTEMPTS_MAX {
        let opened = locks.posix.open(options().read(true).write(true), false, path);
        let (file, file_id) = match opened {
            Ok(Opened::File(file, file_id)) => (file, file_id),
            Ok(Opened::Locked(file_id)) => return Ok(JobResult::Busy(Some(file_id))),
            Err(error) if is_shortage(&error) || is_lease_break(&error) => {
                return Err(file_error(FileOperation::Delete, path)(error));
            }
            Err(_) => return remove(path).map(|()| JobResult::Finished),
        };
        match Lease::take_if_at(locks, file, file_id, path, Mode::Exclusive)? {
            None => {}
            Some(Acquisition::Lease(lease)) => {
                let removed = remove(path);
                lease.unlock(locks, path, Mode::Exclusive);
                return removed.map(|()| JobResult::Finished);
            }
            Some(Acquisition::Busy(file_id)) => return Ok(JobResult::Busy(file_id)),
        }
    }
    Ok(JobResult::Busy(None))
}

#[cfg(test)]
mod tests;

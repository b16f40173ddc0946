//! Files that clients name: everything that is ever done to them, as jobs.
//!
//! A job owns what it works on and brings it back in [`JobResult`], so that it can run on any thread.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::server::Place;
use common::sys::lock::{Hold, Mode};

use crate::error::file::{FileError, FileOperation, file_error, is_lease_break, is_shortage};
use crate::lease::file_id::FileId;
use crate::lease::inherited_posix_locks::{InheritedPosixLocks, Opened};
use crate::lease::local_locks::LocalLocks;
use crate::lease::lock::{ATTEMPTS_MAX, Acquisition, Lease, options, remove};
use crate::protocol::Terms;

/// Something to do with the file of one resource.
#[derive(Debug)]
pub(crate) enum Job {
    /// Lock it.
    Acquire { path: Arc<Path>, terms: Terms },
    /// See whether its path still leads to the file that is leased.
    Look { path: Arc<Path>, file_id: FileId },
    /// Unlock it; remove it too if the terms say so and nobody shares it.
    Release { lease: Lease, path: Arc<Path>, terms: Terms },
    /// Make it.
    Create { path: Arc<Path> },
    /// Remove it unless somebody has locked it, under whatever name.
    Delete { path: Arc<Path> },
    /// Find out what there is of its lock, and take what is missing; make it one that does not end
    /// with this process where that `convert_to_ofd` it.
    CheckLock { file: Arc<File>, file_id: FileId, lease: (Mode, Hold), convert_to_ofd: bool },
}

/// Where a job is done, as far as that is known.
#[derive(Debug)]
pub(crate) enum Location {
    Storage(Place),
    /// Where this leads.
    Path(Arc<Path>),
}

/// What a job left.
#[derive(Debug)]
pub(crate) enum JobResult {
    /// The file is locked.
    Acquired(Lease),
    /// Somebody else has locked the file, or is faster than us every time (`None`).
    Busy(Option<FileId>),
    /// It is the one that is leased.
    IsSame,
    /// It is unlocked, made or removed.
    Finished,
    /// There is so much of its lock.
    LockChecked(Hold),
    /// Nothing has changed.
    Failed(FileError),
    /// Nor has it, and it may be another thing soon: the kernel has told the process that has an
    /// `fcntl(2)` lease on the file to give it up.
    LeaseBreak(FileError),
}

impl Job {
    /// Where it is done.
    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Release { lease, .. } => Location::Storage(lease.file_id().storage()),
            Self::CheckLock { file_id, .. } => Location::Storage(file_id.storage()),
            Self::Acquire { path, .. }
            | Self::Look { path, .. }
            | Self::Create { path }
            | Self::Delete { path } => Location::Path(Arc::clone(path)),
        }
    }

    /// Does what takes no more than opening a file to which no symbolic link leads. `None`: nothing was done.
    pub(crate) fn try_without_links(&self, locks: &LocalLocks) -> Option<JobResult> {
        let Self::Acquire { path, terms } = self else { return None };
        let acquired = Lease::acquire_without_links(locks, path, *terms)?;
        Some(job_result(acquired.map(JobResult::from)))
    }

    /// Does it, without touching what must not be.
    pub(crate) fn run(self, locks: &LocalLocks) -> JobResult {
        let result = match self {
            Self::Acquire { path, terms } => {
                Lease::acquire(locks, &path, terms).map(JobResult::from)
            }
            Self::Look { path, file_id } => look(&path, file_id),
            Self::Release { lease, path, terms } => {
                lease.release(locks, &path, terms);
                Ok(JobResult::Finished)
            }
            Self::Create { path } => create(locks, &path).map(|()| JobResult::Finished),
            Self::Delete { path } => delete(locks, &path),
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

/// Whoever shares a lease gets the file that was leased; another one that is at its path by now is not
/// locked at all.
fn look(path: &Path, file_id: FileId) -> Result<JobResult, FileError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(FileId::of(&result.map_err(file_error(FileOperation::Open, path))?)),
    };
    if found == Some(file_id) {
        return Ok(JobResult::IsSame);
    }
    tracing::warn!(
        target: "util.lockspace",
        "{} is not the file any more that is leased under this name", path.display()
    );
    Ok(JobResult::Busy(Some(file_id)))
}

/// What cannot be found out is as it was.
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
                "Unable to find out whether file {} of device {} is locked still: {error}",
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

/// The file goes while we have it locked, so that nobody's lease on it, whatever its name, is left
/// without a file. What cannot be opened has no lease; whether it can be removed is seen then.
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

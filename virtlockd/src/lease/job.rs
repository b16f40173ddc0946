//! Files that clients name: everything that is ever done to them, as jobs.
//!
//! A job owns what it works on and brings it back in [`Done`], so that it can run on any thread.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::server::Place;
use common::sys::lock::{Hold, Mode};

use crate::error::file::{Attempt, Failure, failure, is_not_yet, is_shortage};
use crate::lease::inode::Inode;
use crate::lease::local_locks::Files;
use crate::lease::lock::{ATTEMPTS_MAX, Acquisition, Lease, options, remove};
use crate::lease::posix_locks::{Opened, PosixFiles};
use crate::protocol::Terms;

/// Something to do with the file of one resource.
#[derive(Debug)]
pub(crate) enum Job {
    /// Lock it.
    Acquire { path: Arc<Path>, terms: Terms },
    /// See whether its path still leads to the file that is leased.
    Look { path: Arc<Path>, inode: Inode },
    /// Unlock it; remove it too if the terms say so and nobody shares it.
    Release { lease: Lease, path: Arc<Path>, terms: Terms },
    /// Make it.
    Create { path: Arc<Path> },
    /// Remove it unless somebody has locked it, under whatever name.
    Delete { path: Arc<Path> },
    /// Find out what there is of its lock, and take what is missing; make it one that does not end
    /// with this process where that `is_to_outlive` it.
    Settle { file: Arc<File>, inode: Inode, lease: (Mode, Hold), is_to_outlive: bool },
}

/// Where a job is done, as far as that is known.
#[derive(Debug)]
pub(crate) enum Location {
    Place(Place),
    /// Where this leads.
    Path(Arc<Path>),
}

/// What a job left.
#[derive(Debug)]
pub(crate) enum Done {
    /// The file is locked.
    Acquired(Lease),
    /// Somebody else has locked the file, or is faster than us every time (`None`).
    Busy(Option<Inode>),
    /// It is the one that is leased.
    IsSame,
    /// It is unlocked, made or removed.
    Finished,
    /// There is so much of its lock.
    Settled(Hold),
    /// Nothing has changed.
    Failed(Failure),
    /// Nor has it, and it may be another thing soon: the kernel has told the process that has an
    /// `fcntl(2)` lease on the file to give it up.
    NotYet(Failure),
}

impl Job {
    /// Where it is done.
    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Release { lease, .. } => Location::Place(lease.inode().place()),
            Self::Settle { inode, .. } => Location::Place(inode.place()),
            Self::Acquire { path, .. }
            | Self::Look { path, .. }
            | Self::Create { path }
            | Self::Delete { path } => Location::Path(Arc::clone(path)),
        }
    }

    /// Does what takes no more than opening a file to which no symbolic link leads. `None`: nothing was done.
    pub(crate) fn try_without_links(&self, files: &Files) -> Option<Done> {
        let Self::Acquire { path, terms } = self else { return None };
        let acquired = Lease::acquire_without_links(files, path, *terms)?;
        Some(done(acquired.map(Done::from)))
    }

    /// Does it, without touching what must not be.
    pub(crate) fn run(self, files: &Files) -> Done {
        let result = match self {
            Self::Acquire { path, terms } => Lease::acquire(files, &path, terms).map(Done::from),
            Self::Look { path, inode } => look(&path, inode),
            Self::Release { lease, path, terms } => {
                lease.release(files, &path, terms);
                Ok(Done::Finished)
            }
            Self::Create { path } => create(files, &path).map(|()| Done::Finished),
            Self::Delete { path } => delete(files, &path),
            Self::Settle { file, inode, lease, is_to_outlive } => {
                Ok(settle(&files.posix, &file, inode, lease, is_to_outlive))
            }
        };
        done(result)
    }
}

impl From<Acquisition> for Done {
    fn from(acquisition: Acquisition) -> Self {
        match acquisition {
            Acquisition::Lease(lease) => Self::Acquired(lease),
            Acquisition::Busy(inode) => Self::Busy(inode),
        }
    }
}

fn done(result: Result<Done, Failure>) -> Done {
    result.unwrap_or_else(|failure| match failure.may_be_over_soon() {
        true => Done::NotYet(failure),
        false => Done::Failed(failure),
    })
}

/// Whoever shares a lease gets the file that was leased; another one that is at its path by now is not
/// locked at all.
fn look(path: &Path, inode: Inode) -> Result<Done, Failure> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(Inode::of(&result.map_err(failure(Attempt::Open, path))?)),
    };
    if found == Some(inode) {
        return Ok(Done::IsSame);
    }
    tracing::warn!(
        target: "util.lockspace",
        "{} is not the file any more that is leased under this name", path.display()
    );
    Ok(Done::Busy(Some(inode)))
}

/// What cannot be found out is as it was.
fn settle(
    posix: &PosixFiles,
    file: &File,
    inode: Inode,
    lease: (Mode, Hold),
    is_to_outlive: bool,
) -> Done {
    Done::Settled(posix.settle(inode, file, lease, is_to_outlive).unwrap_or_else(|error| {
        tracing::error!(
            target: "util.lockspace",
            "Unable to find out whether file {} of device {} is locked still: {error}",
            inode.number, inode.device
        );
        lease.1
    }))
}

fn create(files: &Files, path: &Path) -> Result<(), Failure> {
    let opened = files.posix.open(options().write(true), true, path);
    let opened = opened.map_err(failure(Attempt::Create, path))?;
    if let Opened::File(file, inode) = opened {
        files.posix.close(inode, file);
    }
    Ok(())
}

/// The file goes while we have it locked, so that nobody's lease on it, whatever its name, is left
/// without a file. What cannot be opened has no lease; whether it can be removed is seen then.
fn delete(files: &Files, path: &Path) -> Result<Done, Failure> {
    for _ in 0..ATTEMPTS_MAX {
        let opened = files.posix.open(options().read(true).write(true), false, path);
        let (file, inode) = match opened {
            Ok(Opened::File(file, inode)) => (file, inode),
            Ok(Opened::Locked(inode)) => return Ok(Done::Busy(Some(inode))),
            Err(error) if is_shortage(&error) || is_not_yet(&error) => {
                return Err(failure(Attempt::Delete, path)(error));
            }
            Err(_) => return remove(path).map(|()| Done::Finished),
        };
        match Lease::take_if_at(files, file, inode, path, Mode::Exclusive)? {
            None => {}
            Some(Acquisition::Lease(lease)) => {
                let removed = remove(path);
                lease.unlock(files, path, Mode::Exclusive);
                return removed.map(|()| Done::Finished);
            }
            Some(Acquisition::Busy(inode)) => return Ok(Done::Busy(inode)),
        }
    }
    Ok(Done::Busy(None))
}

#[cfg(test)]
mod tests;

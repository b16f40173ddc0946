//! Files that clients name: everything that is ever done to them, as jobs.
//!
//! A job owns what it works on and brings it back in [`Done`], so that it can run on any thread.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use common::server::Place;
use common::sys::calls::is_unknown;
use common::sys::lock::{self, Hold, Kind, Mode};
use nix::fcntl::OFlag;

use crate::error::file::{Attempt, Failure, failure, is_not_yet, is_shortage};
use crate::lease::devices::{Claim, Devices};
use crate::lease::inode::Inode;
use crate::lease::posix_locks::{Opened, PosixFiles};
use crate::protocol::Terms;

/// Permission bits of a file that we make, libvirt's value.
const FILE_MODE: u32 = 0o600;

/// How often a file may vanish between opening and locking it before the resource counts as
/// locked. Ours; libvirt tries without end.
const ATTEMPTS_MAX: usize = 100;

/// What is known of files beside what the kernel knows. Clones are the same, for jobs on other
/// threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// Leases that are POSIX locks.
    pub(crate) posix: PosixFiles,
    pub(crate) devices: Devices,
}

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

impl Files {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { posix: PosixFiles::new(), devices: Devices::default() }
    }
}

impl Job {
    /// Where it is done.
    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Release { lease: Lease { inode, .. }, .. } | Self::Settle { inode, .. } => {
                Location::Place(inode.place())
            }
            Self::Acquire { path, .. }
            | Self::Look { path, .. }
            | Self::Create { path }
            | Self::Delete { path } => Location::Path(Arc::clone(path)),
        }
    }

    /// Does what takes no more than opening a file to which no symbolic link leads. `None`: nothing was done.
    pub(crate) fn try_without_links(&self, files: &Files) -> Option<Done> {
        let Self::Acquire { path, terms } = self else { return None };
        Some(done(Lease::acquire_without_links(files, path, *terms)?))
    }

    /// Does it, without touching what must not be.
    pub(crate) fn run(self, files: &Files) -> Done {
        let result = match self {
            Self::Acquire { path, terms } => Lease::acquire(files, &path, terms),
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

fn done(result: Result<Done, Failure>) -> Done {
    result.unwrap_or_else(|failure| match failure.may_be_over_soon() {
        true => Done::NotYet(failure),
        false => Done::Failed(failure),
    })
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

    /// The job that finds out what there is of its lock, and takes what is missing.
    pub(crate) fn to_settle(&self, terms: Terms, is_to_outlive: bool) -> Job {
        let (file, lease) = (Arc::clone(&self.file), (terms.mode(), self.hold));
        Job::Settle { file, inode: self.inode, lease, is_to_outlive }
    }

    /// There is so much of its lock by now.
    pub(crate) fn settled(&mut self, hold: Hold) {
        self.hold = hold;
    }

    /// The locked file, and how it is locked.
    pub(crate) fn lock(&self) -> (BorrowedFd<'_>, Hold) {
        (self.file.as_fd(), self.hold)
    }

    fn acquire_without_links(
        files: &Files,
        path: &Path,
        terms: Terms,
    ) -> Option<Result<Done, Failure>> {
        if terms.autocreate {
            return None;
        }
        let opened = files.posix.open_without_links(path)?;
        Some(opened.map_err(failure(Attempt::Open, path)).and_then(|opened| match opened {
            Opened::File(file, inode) => Self::take(files, file, inode, path, terms.mode()),
            Opened::Locked(inode) => Ok(Done::Busy(Some(inode))),
        }))
    }

    fn acquire(files: &Files, path: &Path, terms: Terms) -> Result<Done, Failure> {
        let mode = terms.mode();
        let attempt = if terms.autocreate { Attempt::OpenOrCreate } else { Attempt::Open };
        let mut options = options();
        options.read(true).write(true);
        for _ in 0..ATTEMPTS_MAX {
            let opened = files.posix.open(&options, terms.autocreate, path);
            let (file, inode) = match opened.map_err(failure(attempt, path))? {
                Opened::File(file, inode) => (file, inode),
                Opened::Locked(inode) => return Ok(Done::Busy(Some(inode))),
            };
            if !terms.autocreate {
                return Self::take(files, file, inode, path, mode);
            }
            if let Some(done) = Self::take_if_at(files, file, inode, path, mode)? {
                return Ok(done);
            }
        }
        Ok(Done::Busy(None))
    }

    /// Gives `None` when the open file is not the one at `path` any more: who had it before may
    /// have removed it since it was opened.
    fn take_if_at(
        files: &Files,
        file: File,
        inode: Inode,
        path: &Path,
        mode: Mode,
    ) -> Result<Option<Done>, Failure> {
        Ok(match Self::take(files, file, inode, path, mode)? {
            Done::Acquired(lease) if !lease.inode.is_at(path) => {
                lease.unlock(files, path, mode);
                None
            }
            done => Some(done),
        })
    }

    fn take(
        files: &Files,
        file: File,
        inode: Inode,
        path: &Path,
        mode: Mode,
    ) -> Result<Done, Failure> {
        let (locked, kind) = match lock::try_lock(&file, Kind::Ofd, mode) {
            Err(error) if is_unknown(&error) => (files.posix.lock(inode, file, mode), Kind::Posix),
            locked => (locked.map(|locked| locked.then_some(file)), Kind::Ofd),
        };
        let Some(file) = locked.map_err(failure(Attempt::Lock, path))? else {
            return Ok(Done::Busy(Some(inode)));
        };
        let claim = inode.is_device().then(|| files.devices.claim(inode, mode).map(Box::new));
        let is_excluded = matches!(claim, Some(None));
        let hold = Hold::Whole(kind);
        let lease = Self { file: Arc::new(file), inode, hold, _claim: claim.flatten() };
        Ok(if is_excluded {
            lease.unlock(files, path, mode);
            Done::Busy(Some(inode))
        } else {
            Done::Acquired(lease)
        })
    }

    /// A file made automatically is removed while the lock still keeps others off it. Its last
    /// lock is known by this: it can be had exclusively.
    fn release(self, files: &Files, path: &Path, terms: Terms) {
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
    fn unlock(self, files: &Files, path: &Path, mode: Mode) {
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

/// Opening never waits, whatever a name leads to, and gives us no terminal.
fn options() -> OpenOptions {
    let mut options = File::options();
    options.truncate(false).mode(FILE_MODE);
    options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    options
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
            Some(Done::Acquired(lease)) => {
                let removed = remove(path);
                lease.unlock(files, path, Mode::Exclusive);
                return removed.map(|()| Done::Finished);
            }
            Some(done) => return Ok(done),
        }
    }
    Ok(Done::Busy(None))
}

/// It may be gone already.
fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure(Attempt::Delete, path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCLUSIVE: Terms = Terms { shared: false, autocreate: false };
    const SHARED: Terms = Terms { shared: true, autocreate: false };
    const AUTOCREATED: Terms = Terms { shared: false, autocreate: true };

    fn acquire(path: &Path, terms: Terms) -> Done {
        Job::Acquire { path: path.into(), terms }.run(&Files::default())
    }

    fn lease(path: &Path, terms: Terms) -> Lease {
        match acquire(path, terms) {
            Done::Acquired(lease) => lease,
            other => panic!("not acquired: {other:?}"),
        }
    }

    #[test]
    fn names_of_one_file_exclude_each_other_and_are_released_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "").unwrap();
        fs::hard_link(&one, &two).unwrap();
        let held = lease(&one, EXCLUSIVE);
        assert!(matches!(acquire(&two, SHARED), Done::Busy(inode) if inode == Some(held.inode)));
        held.release(&Files::default(), &one, EXCLUSIVE);
        let (held, other) = (lease(&one, SHARED), lease(&two, SHARED));
        held.release(&Files::default(), &one, SHARED);
        assert!(matches!(acquire(&one, EXCLUSIVE), Done::Busy(_)));
        other.release(&Files::default(), &two, SHARED);
        lease(&one, EXCLUSIVE).release(&Files::default(), &one, EXCLUSIVE);
    }

    #[test]
    fn an_automatic_file_goes_with_its_last_lease() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let terms = Terms { shared: true, autocreate: true };
        let (held, other) = (lease(&path, terms), lease(&path, terms));
        held.release(&Files::default(), &path, terms);
        assert!(path.exists());
        other.release(&Files::default(), &path, terms);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_took_the_path_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let held = lease(&path, AUTOCREATED);
        fs::remove_file(&path).unwrap();
        let other = lease(&path, AUTOCREATED);
        held.release(&Files::default(), &path, AUTOCREATED);
        assert!(other.inode.is_at(&path));
    }

    #[test]
    fn a_file_that_was_replaced_after_it_was_opened_is_not_leased() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let lock = |file| {
            let inode = Inode::of_open(&file).unwrap();
            Lease::take_if_at(&Files::default(), file, inode, &path, Mode::Exclusive).unwrap()
        };
        let removed = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(lock(removed).is_none());
        let replaced = File::create(&path).unwrap();
        fs::rename(&path, dir.path().join("former")).unwrap();
        let file = File::create(&path).unwrap();
        assert!(lock(replaced).is_none());
        assert!(matches!(lock(file), Some(Done::Acquired(_))));
    }

    #[test]
    fn a_file_is_not_removed_while_somebody_has_it_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, alias) = (dir.path().join("lease"), dir.path().join("./lease"));
        let held = lease(&path, AUTOCREATED);
        let delete = || Job::Delete { path: alias.as_path().into() }.run(&Files::default());
        assert!(matches!(delete(), Done::Busy(inode) if inode == Some(held.inode)));
        held.release(&Files::default(), &path, EXCLUSIVE);
        assert!(matches!(delete(), Done::Finished));
        assert!(!path.exists());
        assert!(matches!(delete(), Done::Finished));
    }

    #[test]
    fn a_lock_is_gone_although_its_file_is_still_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        fs::write(&path, "").unwrap();
        let held = lease(&path, EXCLUSIVE);
        let _duplicate = held.file.try_clone().unwrap();
        held.release(&Files::default(), &path, EXCLUSIVE);
        lease(&path, EXCLUSIVE);
    }

    #[test]
    fn failures_are_libvirts() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display();
        let message = |done| match done {
            Done::Failed(failure) => failure.to_rpc().message(),
            other => panic!("not failed: {other:?}"),
        };
        assert_eq!(
            message(acquire(dir.path(), EXCLUSIVE)),
            format!("Unable to open resource {shown}: Is a directory")
        );
        assert_eq!(
            message(Job::Delete { path: dir.path().into() }.run(&Files::default())),
            format!("Unable to delete lockspace resource {shown}: Is a directory")
        );
        let file = dir.path().join("file");
        assert!(matches!(
            Job::Create { path: file.as_path().into() }.run(&Files::default()),
            Done::Finished
        ));
    }
}

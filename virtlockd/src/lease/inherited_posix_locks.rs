//! POSIX locks of this process: on its pid file, and those of leases that libvirt's daemon took
//! before it was replaced, or of all leases where the kernel has no OFD locks.
//!
//! The kernel drops such a lock as soon as *any* fd of its file is closed. So a file with one is
//! never opened, whatever name is given for it, and its fds are closed only with its last lease. A
//! file whose lease [lacks](Hold) a part of its lock is not opened either, as only that keeps other
//! clients off it. An fd that was opened all the same, because the file has just taken another's
//! name, is retained.
//!
//! Where new leases are POSIX locks, an fd that was open before its file was locked must not be
//! closed either. [`InheritedPosixLocks::close`] takes care of it.

use std::collections::{HashMap, hash_map};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::handover::FdSet;
use common::startup::own_pid_file;
use common::sys::calls::Call;
use common::sys::fd;
use common::sys::file::open_without_links;
use common::sys::file_id::FileId;
use common::sys::lock::{self, Hold, Kind, Mode};
use nix::fcntl::OFlag;

use crate::lease::locked_file::LockedFile;

/// Files with POSIX locks. Clones share one table, for jobs on other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct InheritedPosixLocks {
    files: Arc<Mutex<HashMap<FileId, LockedFile>>>,
    /// Whether new leases are POSIX locks, too.
    locks_new_leases: bool,
}

/// Result of opening a file.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File, FileId),
    /// The file must not be opened.
    Locked(FileId),
}

impl InheritedPosixLocks {
    /// Creates an empty table. Where there are OFD locks it gets only inherited ones.
    pub(crate) fn new() -> Self {
        Self { locks_new_leases: Call::OfdLock.refusal().is_some(), ..Self::default() }
    }

    /// Locks a file for a new lease where there are no OFD locks, without loss for any other lease.
    /// Returns the file if it is locked.
    pub(crate) fn lock(&self, file_id: FileId, file: File, mode: Mode) -> io::Result<Option<File>> {
        let hold = Hold::Whole(Kind::Posix);
        match self.files().entry(file_id) {
            // From now on no fd of the file is closed.
            hash_map::Entry::Vacant(entry) => entry.insert(LockedFile::default()).count(mode, hold),
            hash_map::Entry::Occupied(mut entry) => {
                entry.get_mut().retained.push(Arc::new(file));
                return Ok(None);
            }
        }
        let locked = lock::try_lock(&file, Kind::Posix, mode);
        if matches!(locked, Ok(true)) {
            return Ok(Some(file));
        }
        self.files().entry(file_id).or_default().discount(mode, hold);
        self.close_retained(file_id, vec![Arc::new(file)]);
        locked.map(|_| None)
    }

    /// Closes a file without a lease, unless another lease would lose its lock.
    pub(crate) fn close(&self, file_id: FileId, file: File) {
        if self.locks_new_leases {
            self.retain(file_id, file);
            self.close_retained(file_id, Vec::new());
        }
    }

    /// Adds a lease of a file.
    pub(crate) fn add(&self, file_id: FileId, mode: Mode, hold: Hold) {
        if hold != Hold::Whole(Kind::Ofd) {
            self.files().entry(file_id).or_default().count(mode, hold);
        }
    }

    /// Returns whether a lease, or the pid file, may lose its lock if an fd of the file is closed.
    pub(crate) fn contains(&self, file_id: FileId) -> bool {
        is_pid_file(file_id) || self.files().contains_key(&file_id)
    }

    /// Retains an fd that is not needed, as closing it would cost a lock.
    pub(crate) fn retain(&self, file_id: FileId, file: File) {
        self.files().entry(file_id).or_default().retained.push(Arc::new(file));
    }

    /// Passes the retained fds of a file on over an exec, which would close them. A mark tells a
    /// later process of ours, after libvirt's daemon, that they are not leases.
    pub(crate) fn pass_retained(&self, file_id: FileId, fd_set: &FdSet) -> Vec<i32> {
        let files = self.files();
        let retained = files.get(&file_id).into_iter().flat_map(|entry| &entry.retained);
        let marked = retained.inspect(|file| {
            if let Err(error) = fd::mark(file) {
                tracing::warn!(
                    target: "util.lockspace", "Unable to mark a retained fd: {error}"
                );
            }
        });
        marked.map(|file| fd_set.fd(file)).collect()
    }

    /// Passes the retained fds of the pid file on over an exec.
    pub(crate) fn pass_pid_file(&self, fd_set: &FdSet) -> Vec<i32> {
        let pid_file = own_pid_file().map(|(device, number)| FileId { device, number });
        pid_file.map(|file_id| self.pass_retained(file_id, fd_set)).unwrap_or_default()
    }

    /// Returns whether at most one lease has this file's lock.
    pub(crate) fn is_last(&self, file_id: FileId) -> bool {
        self.files().get(&file_id).is_none_or(|entry| entry.leases <= 1)
    }

    /// Checks a lease's lock, takes what is missing, and with `convert_to_ofd` makes it one that
    /// does not end with this process. One of several leases of a file can be converted only if all
    /// are shared; then the table counts no more than those.
    pub(crate) fn check_lock(
        &self,
        file_id: FileId,
        file: &File,
        lease: (Mode, Hold),
        convert_to_ofd: bool,
    ) -> io::Result<Hold> {
        let (mode, before) = lease;
        let (others, are_exclusive) = self.others(file_id, mode, before);
        let is_one_for_all = others > 0 && (are_exclusive || mode == Mode::Exclusive);
        let hold = match is_one_for_all {
            true => lock::confirm_posix(file, Mode::Exclusive)?,
            false => match lock::confirm(file, mode)? {
                Hold::Whole(Kind::Posix) if convert_to_ofd && others == 0 => {
                    lock::make_ofd(file, mode)?
                }
                hold => hold,
            },
        };
        self.update(file_id, file, mode, before, hold)?;
        Ok(hold)
    }

    /// Returns the number of other leases with a POSIX lock on this file, and whether one of them
    /// should be exclusive.
    fn others(&self, file_id: FileId, mode: Mode, hold: Hold) -> (usize, bool) {
        let files = self.files();
        let Some(entry) = files.get(&file_id) else { return (0, false) };
        let is_one = usize::from(hold.is_posix());
        let is_exclusive = usize::from(hold.is_posix() && mode == Mode::Exclusive);
        (entry.leases.saturating_sub(is_one), entry.exclusive > is_exclusive)
    }

    /// Updates the count of a lease. Drops the POSIX lock once no lease has it.
    fn update(
        &self,
        file_id: FileId,
        file: &File,
        mode: Mode,
        before: Hold,
        hold: Hold,
    ) -> io::Result<()> {
        {
            let mut files = self.files();
            let entry = files.entry(file_id).or_default();
            entry.discount(mode, before);
            entry.count(mode, hold);
            if entry.leases > 0 {
                return Ok(());
            }
        }
        let unlocked = lock::unlock(file, Kind::Posix);
        self.close_retained(file_id, Vec::new());
        unlocked
    }

    /// Closes the fds of a file that has no POSIX lock any more, or not yet, and forgets the file.
    /// Until then it is not opened. Closing may hang, which concerns no other file.
    fn close_retained(&self, file_id: FileId, mut closing: Vec<Arc<File>>) {
        loop {
            drop(closing);
            let mut files = self.files();
            let Some(entry) = files.get_mut(&file_id).filter(|entry| entry.leases == 0) else {
                return;
            };
            if entry.retained.is_empty() {
                if entry.incomplete == 0 {
                    files.remove(&file_id);
                }
                return;
            }
            closing = std::mem::take(&mut entry.retained);
        }
    }

    /// Removes a lease: unlocks and closes its file, unless another lease would lose its lock.
    pub(crate) fn release(
        &self,
        file_id: FileId,
        file: Arc<File>,
        mode: Mode,
        hold: Hold,
    ) -> io::Result<()> {
        let unlocked = if hold.is_posix() { Ok(()) } else { lock::unlock(&*file, Kind::Ofd) };
        {
            let mut files = self.files();
            let Some(entry) = files.get_mut(&file_id) else { return unlocked };
            entry.discount(mode, hold);
            if entry.leases > 0 {
                entry.retained.push(file);
                return unlocked;
            }
        }
        let unlocked = lock::unlock(&*file, Kind::Posix).and(unlocked);
        self.close_retained(file_id, vec![file]);
        unlocked
    }

    /// Opens a file, or creates it with `create`, unless it is one of these. While there are none,
    /// this takes no more than opening it.
    pub(crate) fn open(
        &self,
        options: &OpenOptions,
        create: bool,
        path: &Path,
    ) -> io::Result<Opened> {
        if self.files().is_empty() {
            return self.opened(options.clone().create(create).open(path)?);
        }
        // Closing an `O_PATH` fd costs no lock.
        match File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(path) {
            Ok(found) => {
                let file_id = FileId::of_open(&found)?;
                if self.contains(file_id) {
                    return Ok(Opened::Locked(file_id));
                }
                self.opened(options.open(format!("/proc/self/fd/{}", found.as_raw_fd()))?)
            }
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                self.opened(options.clone().create(true).open(path)?)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a file if no symbolic link leads to it. Returns `None` if that is not possible, or if
    /// there are files to compare it with.
    pub(crate) fn open_without_links(&self, path: &Path) -> Option<io::Result<Opened>> {
        let is_simple = self.files().is_empty();
        let file = is_simple.then(|| open_without_links(path).ok()).flatten()?;
        Some(self.opened(file))
    }

    /// Retains a file that must not have been opened.
    fn opened(&self, file: File) -> io::Result<Opened> {
        let file_id = FileId::of_open(&file)?;
        let mut files = self.files();
        if !is_pid_file(file_id) && !files.contains_key(&file_id) {
            return Ok(Opened::File(file, file_id));
        }
        files.entry(file_id).or_default().retained.push(Arc::new(file));
        Ok(Opened::Locked(file_id))
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, LockedFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_pid_file(file_id: FileId) -> bool {
    own_pid_file() == Some((file_id.device, file_id.number))
}

#[cfg(test)]
mod tests;

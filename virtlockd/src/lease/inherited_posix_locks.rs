//! POSIX locks of this process: leases that libvirt's daemon took in it before it became ours, all of
//! them where there are no OFD locks, and the pid file.
//!
//! Such a lock is lost as soon as *any* fd of its file is closed. So a file that has one is never
//! opened, whatever name it is asked for by, and an fd of it is closed only with the last lease. Nor
//! is one opened whose lease [lacks](Hold) something of its lock, which keeps only strangers off it.
//! One that is opened all the same, as it took the name of another a moment ago, stays open. Where new
//! leases are POSIX locks an fd that was open before its file got one must not be closed either, which
//! is seen to in one place, [`InheritedPosixLocks::close`].

use std::collections::{HashMap, hash_map};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::handover::Passing;
use common::startup::own_pid_file;
use common::sys::calls::Call;
use common::sys::fd;
use common::sys::file::open_without_links;
use common::sys::lock::{self, Hold, Kind, Mode};
use nix::fcntl::OFlag;

use crate::lease::file_id::FileId;

/// Files with POSIX locks. Clones are the same set, for jobs on other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct InheritedPosixLocks {
    files: Arc<Mutex<HashMap<FileId, LockedFile>>>,
    /// New leases are such locks too.
    locks_new_leases: bool,
}

#[derive(Debug, Default)]
struct LockedFile {
    /// That have a POSIX lock, which is one for all of them.
    leases: usize,
    /// Those among them that should have it alone.
    exclusive: usize,
    /// Those, with whatever lock, that lack something of it.
    incomplete: usize,
    /// Of leases that were released, while there are others, and what was opened by accident.
    retained: Vec<Arc<File>>,
}

/// What came of opening a file.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File, FileId),
    /// It is one of those that must not be opened.
    Locked(FileId),
}

impl InheritedPosixLocks {
    /// None yet. There will be only those that are taken over, if there are OFD locks.
    pub(crate) fn new() -> Self {
        Self { locks_new_leases: Call::OfdLock.refusal().is_some(), ..Self::default() }
    }

    /// Takes a lock for a new lease, where there are no OFD locks. Whatever becomes of it, nobody
    /// loses one. Gives the file if it is locked.
    pub(crate) fn lock(&self, file_id: FileId, file: File, mode: Mode) -> io::Result<Option<File>> {
        let hold = Hold::Whole(Kind::Posix);
        match self.files().entry(file_id) {
            // From now on no fd of it is closed.
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

    /// Closes a file without a lease, unless that would cost another its lock.
    pub(crate) fn close(&self, file_id: FileId, file: File) {
        if self.locks_new_leases {
            self.retain(file_id, file);
            self.close_retained(file_id, Vec::new());
        }
    }

    /// One more lease of this file.
    pub(crate) fn add(&self, file_id: FileId, mode: Mode, hold: Hold) {
        if hold != Hold::Whole(Kind::Ofd) {
            self.files().entry(file_id).or_default().count(mode, hold);
        }
    }

    /// Whether closing an fd of this file may cost a lease its lock.
    pub(crate) fn contains(&self, file_id: FileId) -> bool {
        is_pid_file(file_id) || self.files().contains_key(&file_id)
    }

    /// An fd of a file of these that nobody needs.
    pub(crate) fn retain(&self, file_id: FileId, file: File) {
        self.files().entry(file_id).or_default().retained.push(Arc::new(file));
    }

    /// Takes along what is open of a file and nobody needs: an exec closes it otherwise. Ours that
    /// comes after libvirt's daemon knows it by a mark.
    pub(crate) fn pass_retained(&self, file_id: FileId, passing: &Passing) -> Vec<i32> {
        let files = self.files();
        let retained = files.get(&file_id).into_iter().flat_map(|entry| &entry.retained);
        let marked = retained.inspect(|file| {
            if let Err(error) = fd::mark(file) {
                tracing::warn!(
                    target: "util.lockspace", "Unable to mark what is not needed any more: {error}"
                );
            }
        });
        marked.map(|file| passing.fd(file)).collect()
    }

    /// The same of the pid file.
    pub(crate) fn pass_pid_file(&self, passing: &Passing) -> Vec<i32> {
        let pid_file = own_pid_file().map(|(device, number)| FileId { device, number });
        pid_file.map(|file_id| self.pass_retained(file_id, passing)).unwrap_or_default()
    }

    /// Whether no more than one lease has this file's lock.
    pub(crate) fn is_last(&self, file_id: FileId) -> bool {
        self.files().get(&file_id).is_none_or(|entry| entry.leases <= 1)
    }

    /// Finds out what there is of a lease's lock, takes what is missing, and where `convert_to_ofd`
    /// makes it one that does not end with this process. One of several leases of a file can be that
    /// only if all are shared; nobody knows of any more than those.
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

    /// Other leases with a POSIX lock on this file, and whether one of them should have it alone.
    fn others(&self, file_id: FileId, mode: Mode, hold: Hold) -> (usize, bool) {
        let files = self.files();
        let Some(entry) = files.get(&file_id) else { return (0, false) };
        let is_one = usize::from(hold.is_posix());
        let is_exclusive = usize::from(hold.is_posix() && mode == Mode::Exclusive);
        (entry.leases.saturating_sub(is_one), entry.exclusive > is_exclusive)
    }

    /// The POSIX lock goes when no lease has it any more.
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

    /// Closes fds of a file that has no POSIX lock any more, or yet, and forgets the file; until then
    /// nobody opens it. What is closed may hang, which concerns no other file.
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

    /// One lease less: unlocks and closes the file, unless that would cost another its lock.
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

    /// Opens a file, or makes it where that is wanted, unless it is one of these. As long as there are
    /// none that takes no more than opening it.
    pub(crate) fn open(
        &self,
        options: &OpenOptions,
        create: bool,
        path: &Path,
    ) -> io::Result<Opened> {
        if self.files().is_empty() {
            return self.opened(options.clone().create(create).open(path)?);
        }
        // Closing an fd that only stands for a path costs no lock.
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

    /// Opens one to which no symbolic link leads. `None`: it cannot be opened so, or more has to be looked at.
    pub(crate) fn open_without_links(&self, path: &Path) -> Option<io::Result<Opened>> {
        let is_simple = self.files().is_empty();
        let file = is_simple.then(|| open_without_links(path).ok()).flatten()?;
        Some(self.opened(file))
    }

    /// What is noticed too late is noticed once: from then on the file is one of these.
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

impl LockedFile {
    fn count(&mut self, mode: Mode, hold: Hold) {
        self.leases += usize::from(hold.is_posix());
        self.exclusive += usize::from(hold.is_posix() && mode == Mode::Exclusive);
        self.incomplete += usize::from(!hold.is_whole());
    }

    fn discount(&mut self, mode: Mode, hold: Hold) {
        let is_exclusive = hold.is_posix() && mode == Mode::Exclusive;
        self.leases = self.leases.saturating_sub(usize::from(hold.is_posix()));
        self.exclusive = self.exclusive.saturating_sub(usize::from(is_exclusive));
        self.incomplete = self.incomplete.saturating_sub(usize::from(!hold.is_whole()));
    }
}

#[cfg(test)]
mod tests;

//! Leases that libvirt's daemon took in this process before it became ours: POSIX locks.
//!
//! Such a lock is lost as soon as *any* fd of its file is closed. So a file that has one is never
//! opened, whatever name it is asked for by, and an fd of it is closed only with the last lease.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::sys::lock::{self, Kind};
use nix::fcntl::OFlag;

use crate::file::Inode;

/// How often a file may appear or vanish while it is being opened; ours.
const ATTEMPTS_MAX: usize = 100;

/// Files with POSIX locks. Clones are the same set, for jobs on other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct PosixFiles(Arc<Mutex<HashMap<Inode, Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    leases: usize,
    /// Of leases that were released, while there are others.
    parked: Vec<Arc<File>>,
}

/// What came of opening a file.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File),
    /// It is one of those that must not be opened.
    Locked(Inode),
}

impl PosixFiles {
    /// One more lease of this file.
    pub(crate) fn add(&self, inode: Inode) {
        self.files().entry(inode).or_default().leases += 1;
    }

    /// How many there are of this file.
    pub(crate) fn leases(&self, inode: Inode) -> usize {
        self.files().get(&inode).map_or(0, |entry| entry.leases)
    }

    /// The file has no POSIX lock any more.
    pub(crate) fn forget(&self, inode: Inode) {
        self.files().remove(&inode);
    }

    /// One lease less: unlocks and closes the file if it was the last.
    pub(crate) fn release(&self, inode: Inode, file: Arc<File>) -> io::Result<()> {
        let mut files = self.files();
        if let Some(entry) = files.get_mut(&inode)
            && entry.leases > 1
        {
            entry.leases -= 1;
            entry.parked.push(file);
            return Ok(());
        }
        files.remove(&inode);
        lock::unlock(&*file, Kind::Posix)
    }

    /// Opens a file, or makes it where that is wanted, unless it is one of these. Without any it
    /// is opened as always.
    pub(crate) fn open(
        &self,
        options: &OpenOptions,
        create: bool,
        path: &Path,
    ) -> io::Result<Opened> {
        if self.files().is_empty() {
            return options.clone().create(create).open(path).map(Opened::File);
        }
        for _ in 0..ATTEMPTS_MAX {
            // Closing an fd that only stands for a path costs no lock.
            let found = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(path);
            let found = match found {
                Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                    match options.clone().create_new(true).open(path) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                        result => return result.map(Opened::File),
                    }
                }
                result => result?,
            };
            let inode = Inode::of(&found.metadata()?);
            if self.files().contains_key(&inode) {
                return Ok(Opened::Locked(inode));
            }
            return options.open(format!("/proc/self/fd/{}", found.as_raw_fd())).map(Opened::File);
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Inode, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

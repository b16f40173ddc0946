//! Files that logs are written to, so that none of them is deleted.
//!
//! A file is registered here after it was opened. So whoever opens one waits while a file of the
//! same file system is being deleted, and looks afterwards whether the file is still there. The
//! lock is never held while anything is done to a file.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use common::sys::fd;
use common::sys::file_id::FileId;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::location::Location;
use super::rotation::is_append_only;

use super::Error;

/// Permissions of a new log file, before the umask; libvirt's value.
const MODE: u32 = 0o600;

/// Times that a file is opened that is deleted before it is registered.
const OPENINGS_MAX: u32 = 8;

static FILES: LazyLock<Mutex<Files>> = LazyLock::new(Mutex::default);

/// Signals that a deletion has ended, or that a file that waited for that is registered.
static CHANGED: Condvar = Condvar::new();

#[derive(Debug, Default)]
struct Files {
    /// Numbers of the files that logs are written to. Two files that have one number by chance
    /// count as one, which does no harm.
    open: HashSet<u64>,
    /// Numbers of files that several logs are written to, and how many more than one.
    shared: HashMap<u64, u32>,
    /// Devices of the files that are being deleted: one on each file system at most, so that none waits
    /// for another that hangs.
    deleting: Vec<u64>,
    /// Devices of the logs that are being rotated, one for each.
    renaming: Vec<u64>,
    /// Number of deletions that have ended.
    deletions: u64,
    /// Devices of the files that wait for a deletion to end, one for each. The next deletion there waits
    /// for them.
    waiting: Vec<u64>,
}

/// A file that a log is written to.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    id: FileId,
    /// With `O_APPEND`.
    appends: bool,
}

/// Permission to delete one file: none of its file system is registered or renamed meanwhile.
#[derive(Debug)]
pub struct Deletion(u64);

/// Permission to rename files of one file system: none of them is deleted meanwhile.
#[derive(Debug)]
pub(super) struct Renaming(u64);

/// Returns whether a log is written to this file.
pub fn is_open(id: FileId) -> bool {
    files().open.contains(&number(id))
}

impl OpenFile {
    /// Opens or creates a log, which is not deleted from then on; returns its size too. `O_APPEND`,
    /// which `splice` refuses, is used only where others write to it as well, and where nothing
    /// else is allowed.
    ///
    /// # Errors
    /// As [`Location::open`].
    pub(super) fn at(location: &Location<'_>, is_shared: bool) -> Result<(Self, u64), Error> {
        let mut openings = 0;
        loop {
            let begun = now();
            let opened = open_or_create(location, is_shared).map(|(file, metadata, appends)| {
                (Self::new(file, FileId::of(&metadata), appends), metadata.len())
            });
            openings += 1;
            let is_certain = openings == OPENINGS_MAX || !may_be_deleted_since(begun);
            match &opened {
                Ok((file, _)) if !is_certain && !location.leads_to(file.id()) => {}
                // As a network's file system says when the file goes while it is opened.
                Err(error) if !is_certain && error.errno() == Some(Errno::ENOENT as i32) => {}
                _ => return opened,
            }
        }
    }

    /// Registers a file. Waits while a file of the same file system is being deleted, which may be
    /// this one.
    pub(super) fn new(file: File, id: FileId, appends: bool) -> Self {
        let mut files = files();
        if files.deleting.contains(&id.device) {
            files.waiting.push(id.device);
            while files.deleting.contains(&id.device) {
                files = wait(files);
            }
            remove_one(&mut files.waiting, id.device);
            CHANGED.notify_all();
        }
        if !files.open.insert(number(id)) {
            *files.shared.entry(number(id)).or_default() += 1;
        }
        Self { file, id, appends }
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Makes all writes go to its end from now on.
    pub(super) fn append_only(&mut self) -> io::Result<()> {
        fd::set_append(&self.file)?;
        self.appends = true;
        Ok(())
    }

    /// Returns whether all writes go to its end.
    pub(super) fn appends(&self) -> bool {
        self.appends
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut files = files();
        match files.shared.get_mut(&number(self.id)) {
            Some(more @ 2..) => *more -= 1,
            Some(_) => drop(files.shared.remove(&number(self.id))),
            None => drop(files.open.remove(&number(self.id))),
        }
    }
}

impl Deletion {
    /// Begins the deletion of a file of this device. Waits for any other there to end, and for files of
    /// the device to be renamed.
    pub fn begin(dev: u64) -> Self {
        let mut files = files();
        while files.is_busy(dev) {
            files = wait(files);
        }
        files.deleting.push(dev);
        Self(dev)
    }
}

impl Drop for Deletion {
    fn drop(&mut self) {
        let mut files = files();
        remove_one(&mut files.deleting, self.0);
        files.deletions += 1;
        drop(files);
        CHANGED.notify_all();
    }
}

impl Renaming {
    /// Begins to rename files of this device. Waits while one of them is being deleted.
    pub(super) fn begin(dev: u64) -> Self {
        let mut files = files();
        while files.deleting.contains(&dev) {
            files = wait(files);
        }
        files.renaming.push(dev);
        Self(dev)
    }
}

impl Drop for Renaming {
    fn drop(&mut self) {
        remove_one(&mut files().renaming, self.0);
        CHANGED.notify_all();
    }
}

impl Files {
    /// Returns whether a deletion on this device has to wait.
    fn is_busy(&self, dev: u64) -> bool {
        [&self.deleting, &self.waiting, &self.renaming].into_iter().any(|all| all.contains(&dev))
    }
}

fn remove_one(devices: &mut Vec<u64>, dev: u64) {
    if let Some(index) = devices.iter().position(|it| *it == dev) {
        devices.swap_remove(index);
    }
}

/// Returns one number for the two that identify a file, as that takes less memory.
fn number(id: FileId) -> u64 {
    id.number ^ id.device.rotate_left(u64::BITS / 2)
}

/// Returns a moment, for [`may_be_deleted_since`].
fn now() -> u64 {
    files().deletions
}

/// Returns whether a file that was found at this moment or later may have been deleted before it
/// was registered.
fn may_be_deleted_since(moment: u64) -> bool {
    let files = files();
    !files.deleting.is_empty() || files.deletions != moment
}

/// Opens or creates a log. Returns also whether all writes go to its end.
fn open_or_create(
    location: &Location<'_>,
    is_shared: bool,
) -> Result<(File, Metadata, bool), Error> {
    let open = |appends: bool| {
        let mut flags = OFlag::O_WRONLY | OFlag::O_CREAT;
        flags.set(OFlag::O_APPEND, appends);
        location.open(None, flags, MODE).map(|(file, metadata)| (file, metadata, appends))
    };
    match open(is_shared) {
        Err(Error::Open { source, .. }) if is_append_only(&source) => open(true),
        result => result,
    }
}

fn files() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(files: MutexGuard<'static, Files>) -> MutexGuard<'static, Files> {
    CHANGED.wait(files).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Devices that no file of another test is on.
    const DEV: u64 = u64::MAX;
    const OTHER_DEV: u64 = u64::MAX - 1;

    #[test]
    fn a_deletion_that_hangs_holds_up_none_elsewhere() {
        let hanging = Deletion::begin(OTHER_DEV);
        let waits = thread::spawn(|| drop(Deletion::begin(OTHER_DEV)));
        drop(Deletion::begin(DEV - 2));
        drop(Renaming::begin(DEV - 2));
        drop(hanging);
        waits.join().unwrap();
    }

    #[test]
    fn files_are_renamed_or_deleted_but_not_both_at_once() {
        let (done, is_done) = mpsc::channel();
        let wait = |is_done: &mpsc::Receiver<()>| is_done.recv_timeout(Duration::from_millis(200));
        let renaming = [Renaming::begin(DEV), Renaming::begin(DEV)];
        let deleting = done.clone();
        let deletion = thread::spawn(move || {
            drop(Deletion::begin(DEV));
            deleting.send(()).unwrap();
        });
        let [first, second] = renaming;
        drop(first);
        wait(&is_done).unwrap_err();
        drop(second);
        is_done.recv().unwrap();
        deletion.join().unwrap();

        let deletion = Deletion::begin(DEV);
        let renaming = thread::spawn(move || {
            drop(Renaming::begin(DEV));
            done.send(()).unwrap();
        });
        wait(&is_done).unwrap_err();
        drop(deletion);
        is_done.recv().unwrap();
        renaming.join().unwrap();
    }
}

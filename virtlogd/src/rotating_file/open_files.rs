//! Which files logs are written to, so that nobody deletes one of them.
//!
//! A file becomes known here behind the moment at which it is opened. So whoever opens one waits while
//! a file of the same file system is being deleted, and looks afterwards whether the file is still
//! there. The lock is never held while anything is done to a file.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use common::sys::fd;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::location::Location;
use super::rotation::is_append_only;
use super::{Error, FileId};

/// Permissions of a new log file, before the umask; libvirt's value.
const MODE: u32 = 0o600;

/// How often a file is opened that is deleted before it is known to be a log's.
const OPENINGS_MAX: u32 = 8;

static FILES: LazyLock<Mutex<Files>> = LazyLock::new(Mutex::default);

/// A deletion has ended, or a file that waited for that is known.
static CHANGED: Condvar = Condvar::new();

#[derive(Debug, Default)]
struct Files {
    /// To which logs are written. Two files that have one number by chance are one, which does no harm.
    open: HashSet<u64>,
    /// Those to which several are, and to how many more than one.
    shared: HashMap<u64, u32>,
    /// The device of the file that is being deleted, if one is.
    deleting: Option<u64>,
    /// Deletions that have ended, ever.
    deletions: u64,
    /// Files that wait for a deletion to end; the next one waits for them.
    waiting: usize,
}

/// A file that a log is written to.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    id: FileId,
    /// With `O_APPEND`.
    appends: bool,
}

/// While it is there one file may be deleted: none of its file system becomes a log's.
#[derive(Debug)]
pub struct Deletion(());

/// Whether a log is written to this file.
pub fn is_open(id: FileId) -> bool {
    files().open.contains(&number(id))
}

impl OpenFile {
    /// Opens or creates a log, which is not deleted from then on; gives its size. With `O_APPEND`, which
    /// `splice` refuses, only where others write to it as well, and where nothing else is allowed.
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

    /// Waits while a file of the same file system is being deleted, which may be this one.
    pub(super) fn new(file: File, id: FileId, appends: bool) -> Self {
        let mut files = files();
        if files.deleting == Some(id.dev) {
            files.waiting += 1;
            while files.deleting == Some(id.dev) {
                files = wait(files);
            }
            files.waiting -= 1;
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

    /// From now on all writes go to its end.
    pub(super) fn append_only(&mut self) -> io::Result<()> {
        fd::set_append(&self.file)?;
        self.appends = true;
        Ok(())
    }

    /// Whether all writes go to its end.
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
    /// Of a file of this device. Waits for any other to end.
    pub fn begin(dev: u64) -> Self {
        let mut files = files();
        while files.deleting.is_some() || files.waiting > 0 {
            files = wait(files);
        }
        files.deleting = Some(dev);
        Self(())
    }
}

impl Drop for Deletion {
    fn drop(&mut self) {
        let mut files = files();
        files.deleting = None;
        files.deletions += 1;
        drop(files);
        CHANGED.notify_all();
    }
}

/// Less to remember than the two numbers that it is made of.
fn number(id: FileId) -> u64 {
    id.inode ^ id.dev.rotate_left(u64::BITS / 2)
}

/// A moment, for [`may_be_deleted_since`].
fn now() -> u64 {
    files().deletions
}

/// Whether a file that was found at this moment or later may have been deleted by now, before it was
/// known here.
fn may_be_deleted_since(moment: u64) -> bool {
    let files = files();
    files.deleting.is_some() || files.deletions != moment
}

/// Gives whether all writes go to its end, too.
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

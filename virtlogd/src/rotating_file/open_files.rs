//! Which files logs are written to, so that nobody deletes one of them.
//!
//! A file becomes known here behind the moment at which it is opened. So whoever opens one waits while
//! a file of the same file system is being deleted, and looks afterwards whether the file is still
//! there. The lock is never held while anything is done to a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use common::sys::fd;

use super::FileId;

static FILES: Mutex<Files> = Mutex::new(Files::new());

/// A deletion has ended, or a file that waited for that is known.
static CHANGED: Condvar = Condvar::new();

#[derive(Debug)]
struct Files {
    /// How many logs are written to each.
    logs: BTreeMap<FileId, u32>,
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
    files().logs.contains_key(&id)
}

/// A moment, for [`may_be_deleted_since`].
pub(super) fn now() -> u64 {
    files().deletions
}

/// Whether a file that was found at this moment or later may have been deleted by now, before it was
/// known here.
pub(super) fn may_be_deleted_since(moment: u64) -> bool {
    let files = files();
    files.deleting.is_some() || files.deletions != moment
}

impl OpenFile {
    /// Waits while a file of the same file system is being deleted, which may be this one.
    pub(super) fn new(file: File, id: FileId) -> Self {
        let mut files = files();
        if files.deleting == Some(id.dev) {
            files.waiting += 1;
            while files.deleting == Some(id.dev) {
                files = wait(files);
            }
            files.waiting -= 1;
            CHANGED.notify_all();
        }
        *files.logs.entry(id).or_default() += 1;
        drop(files);
        let appends = fd::appends(&file);
        Self { file, id, appends }
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Whether all writes go to its end.
    pub(super) fn appends(&self) -> bool {
        self.appends
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut files = files();
        if let Some(logs) = files.logs.get_mut(&self.id) {
            *logs -= 1;
            if *logs == 0 {
                files.logs.remove(&self.id);
            }
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

impl Files {
    const fn new() -> Self {
        Self { logs: BTreeMap::new(), deleting: None, deletions: 0, waiting: 0 }
    }
}

fn files() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(files: MutexGuard<'static, Files>) -> MutexGuard<'static, Files> {
    CHANGED.wait(files).unwrap_or_else(PoisonError::into_inner)
}

//! Work on a path that may lead to another file system. It starts where the path begins, and moves
//! on where a symbolic link leads out of that file system.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::progress::Progress;
use super::storage::{Start, Table, plain};

/// Moves to another file system per job; after that, the work is done where it is.
const SENT_ON_MAX: u32 = 8;

/// Work on a path.
pub trait PathWork: Send + 'static {
    /// Result of the work.
    type Outcome;

    /// Does the work if that takes no more than opening a file without symbolic links in its path;
    /// `None` if nothing was done.
    fn try_without_links(&mut self) -> Option<Self::Outcome> {
        None
    }

    /// Does the work, following all links.
    fn run(self: Box<Self>) -> Self::Outcome;
}

impl<O, F: FnOnce() -> O + Send + 'static> PathWork for F {
    type Outcome = O;

    fn run(self: Box<Self>) -> O {
        (*self)()
    }
}

/// The work, and the part of its path that was followed.
pub(crate) struct Errand<O> {
    pub(crate) path: PathBuf,
    sent_on: u32,
    /// The daemon's number of the object that the job works for.
    pub(crate) source: u64,
    pub(crate) progress: Progress,
    work: Box<dyn PathWork<Outcome = O>>,
}

/// Result of a step.
pub(crate) enum Step<O> {
    Done(O),
    /// Nothing is done: the work belongs to another file system.
    Elsewhere(Errand<O>),
}

impl<O: 'static> Errand<O> {
    pub(crate) fn new(
        path: &Path,
        source: u64,
        progress: Progress,
        work: impl PathWork<Outcome = O>,
    ) -> Self {
        Self { path: plain(path), sent_on: 0, source, progress, work: Box::new(work) }
    }

    /// Does the work, unless the path leads to another file system.
    pub(crate) fn run(mut self, table: &Table, start: Start) -> Step<O> {
        if !has_parents(&self.path)
            && let Some(outcome) = self.work.try_without_links()
        {
            return Step::Done(outcome);
        }
        let is_to_follow = self.sent_on < SENT_ON_MAX;
        match is_to_follow.then(|| table.elsewhere(&self.path, start)).flatten() {
            Some(path) => {
                (self.path, self.sent_on) = (path, self.sent_on + 1);
                Step::Elsewhere(self)
            }
            None => Step::Done(self.work.run()),
        }
    }
}

/// Returns whether a path may leave a file system by `..`.
fn has_parents(path: &Path) -> bool {
    path.as_os_str().as_bytes().windows(3).any(|bytes| bytes == b"/..")
}

impl<O> fmt::Debug for Errand<O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Errand").field("path", &self.path).finish_non_exhaustive()
    }
}

//! Work on a path of which it is not known where it leads. It is done where the path begins, and where
//! a symbolic link leads out of that file system it is sent on.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::progress::Progress;
use super::storage::{Start, Table, plain};

/// How often work is sent on at the most; then it is done where it is.
const SENT_ON_MAX: u32 = 8;

/// Work on a path.
pub trait PathWork: Send + 'static {
    /// The result of the work.
    type Outcome;

    /// Does it if that takes no more than opening a file to which no symbolic link leads. `None`: nothing
    /// was done.
    fn try_without_links(&mut self) -> Option<Self::Outcome> {
        None
    }

    /// Does it, wherever the path leads.
    fn run(self: Box<Self>) -> Self::Outcome;
}

impl<O, F: FnOnce() -> O + Send + 'static> PathWork for F {
    type Outcome = O;

    fn run(self: Box<Self>) -> O {
        (*self)()
    }
}

/// The work, and how far its path was followed.
pub(crate) struct Errand<O> {
    pub(crate) path: PathBuf,
    sent_on: u32,
    /// The daemon's number for what it is done for.
    pub(crate) source: u64,
    pub(crate) progress: Progress,
    work: Box<dyn PathWork<Outcome = O>>,
}

/// How far work has got.
pub(crate) enum Step<O> {
    Done(O),
    /// Nothing is done yet, as it has to be done elsewhere.
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

    /// Does the work, if the path does not lead elsewhere.
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

/// Whether a path may leave a file system by `..`.
fn has_parents(path: &Path) -> bool {
    path.as_os_str().as_bytes().windows(3).any(|bytes| bytes == b"/..")
}

impl<O> fmt::Debug for Errand<O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Errand").field("path", &self.path).finish_non_exhaustive()
    }
}

//! Work on a path of which it is not known where it leads. It is done where the path begins, and where
//! a symbolic link leads out of that file system it is sent on.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::place::{Start, Table, plain};
use super::{Core, Done, Place, Progress};

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
pub(super) struct Errand<O> {
    path: PathBuf,
    sent_on: u32,
    /// The daemon's number for what it is done for.
    pub(super) source: u64,
    progress: Progress,
    work: Box<dyn PathWork<Outcome = O>>,
}

impl<O: 'static> Core<O> {
    /// [`Self::submit`] of work on a path, wherever that leads. Gives where it is done first;
    /// [`Daemon::job_goes_on_at`](super::Daemon::job_goes_on_at) tells of other places.
    pub fn submit_at_path(
        &mut self,
        path: &Path,
        source: u64,
        progress: Progress,
        work: impl PathWork<Outcome = O>,
    ) -> Place {
        self.send_on(Errand {
            path: plain(path),
            sent_on: 0,
            source,
            progress,
            work: Box::new(work),
        })
    }

    pub(super) fn send_on(&mut self, errand: Errand<O>) -> Place {
        let table = self.mounts.table();
        let start = table.start_of(&errand.path);
        let (source, progress) = (errand.source, errand.progress.clone());
        let work = move || errand.run(&table, start);
        self.jobs.submit_with_progress(start.place, source, progress, work);
        start.place
    }
}

impl<O: 'static> Errand<O> {
    fn run(mut self, table: &Table, start: Start) -> Done<O> {
        if !has_parents(&self.path)
            && let Some(outcome) = self.work.try_without_links()
        {
            return Done::Daemons(outcome);
        }
        let is_to_follow = self.sent_on < SENT_ON_MAX;
        match is_to_follow.then(|| table.elsewhere(&self.path, start)).flatten() {
            Some(path) => {
                (self.path, self.sent_on) = (path, self.sent_on + 1);
                Done::Elsewhere(self)
            }
            None => Done::Daemons(self.work.run()),
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

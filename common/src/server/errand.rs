//! Work on a path of which it is not known where it leads. It is done where the path begins, and where
//! a symbolic link leads out of that file system it is sent on.

use std::fmt;
use std::path::{Path, PathBuf};

use super::place::Table;
use super::{Core, Done, Place, Progress};

/// How often work is sent on at the most; then it is done where it is.
const SENT_ON_MAX: u32 = 8;

/// The work, and how far its path was followed.
pub(super) struct Errand<O> {
    path: PathBuf,
    sent_on: u32,
    /// The daemon's number for what it is done for.
    pub(super) source: u64,
    progress: Progress,
    work: Box<dyn FnOnce() -> O + Send>,
}

impl<O: 'static> Core<O> {
    /// [`Self::submit`] of work on a path, wherever that leads. Gives where it is done first;
    /// [`Daemon::job_goes_on_at`](super::Daemon::job_goes_on_at) tells of other places.
    pub fn submit_at_path(
        &mut self,
        path: &Path,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) -> Place {
        self.send_on(Errand {
            path: path.to_owned(),
            sent_on: 0,
            source,
            progress,
            work: Box::new(work),
        })
    }

    pub(super) fn send_on(&mut self, errand: Errand<O>) -> Place {
        let table = self.mounts.table();
        let place = table.place_of(&errand.path);
        let (source, progress) = (errand.source, errand.progress.clone());
        self.jobs.submit_with_progress(place, source, progress, move || errand.run(&table));
        place
    }
}

impl<O> Errand<O> {
    fn run(mut self, table: &Table) -> Done<O> {
        let is_to_follow = self.sent_on < SENT_ON_MAX;
        match is_to_follow.then(|| table.elsewhere(&self.path)).flatten() {
            Some(path) => {
                (self.path, self.sent_on) = (path, self.sent_on + 1);
                Done::Elsewhere(self)
            }
            None => Done::Daemons((self.work)()),
        }
    }
}

impl<O> fmt::Debug for Errand<O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Errand").field("path", &self.path).finish_non_exhaustive()
    }
}

//! Jobs, and their way to a thread and back.

use std::time::{Duration, Instant};

use super::progress::Progress;
use super::storage::StorageId;

/// A unit of work.
pub(crate) struct Job<O> {
    pub(crate) id: u64,
    /// The daemon's number of the object that the job works for.
    pub(crate) source: u64,
    pub(crate) place: StorageId,
    pub(crate) since: Instant,
    pub(crate) progress: Option<Progress>,
    pub(crate) work: Box<dyn FnOnce() -> O + Send>,
}

/// A submitted job that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// The daemon's number of the object that the job works for.
    pub source: u64,
    /// Time of submission.
    pub since: Instant,
    pub(crate) place: StorageId,
    /// It may block on a peer.
    pub(crate) is_at_peer: bool,
}

/// Time for a job before the loop continues without it; up to twice as long, since the watcher does
/// not know when the job began. A check costs as much as a line of a guest's.
pub(crate) const BLOCKING_THRESHOLD: Duration = Duration::from_millis(8);

/// Threads besides the first.
pub(crate) const THREADS_MAX: usize = 64;

/// Outcome of a job from another thread than the loop's.
#[derive(Debug)]
pub(crate) struct Returned<O> {
    pub(crate) id: u64,
    pub(crate) outcome: O,
    pub(crate) was_quick: bool,
}

impl<O> Job<O> {
    /// Runs the job on this thread.
    pub(crate) fn run(self) -> O {
        let Self { work, progress, .. } = self;
        progress.iter().for_each(Progress::note);
        let outcome = work();
        progress.iter().for_each(Progress::end);
        outcome
    }

    pub(super) fn in_flight(&self) -> InFlight {
        InFlight { source: self.source, since: self.since, place: self.place, is_at_peer: false }
    }
}

impl<O> std::fmt::Debug for Job<O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.in_flight().fmt(formatter)
    }
}

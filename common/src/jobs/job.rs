//! A piece of work on its way to a thread and back.

use std::time::{Duration, Instant};

use super::progress::Progress;
use super::storage::StorageId;

/// A piece of work.
pub(crate) struct Job<O> {
    pub(crate) id: u64,
    /// The daemon's number for what it is done for.
    pub(crate) source: u64,
    pub(crate) place: StorageId,
    pub(crate) since: Instant,
    pub(crate) progress: Option<Progress>,
    pub(crate) work: Box<dyn FnOnce() -> O + Send>,
}

/// A job that was handed out and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// The daemon's number for what it is done for.
    pub source: u64,
    /// When it was handed out.
    pub since: Instant,
    pub(crate) place: StorageId,
    /// It may wait for a peer.
    pub(crate) is_at_peer: bool,
}

/// How long a job may take before the loop goes on without it; up to twice as long, since the
/// watcher does not know when it began. A look costs as much as a line of a guest's does.
pub(crate) const BLOCKING_THRESHOLD: Duration = Duration::from_millis(8);

/// Threads beside the first.
pub(crate) const THREADS_MAX: usize = 64;

/// What a job on another thread than the loop's has brought back.
#[derive(Debug)]
pub(crate) struct Returned<O> {
    pub(crate) id: u64,
    pub(crate) outcome: O,
    pub(crate) was_quick: bool,
}

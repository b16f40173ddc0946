//! Places whose jobs are run by threads of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::job::{BLOCKING_THRESHOLD, Job};
use super::progress::{HANG, Progress};

/// Jobs in a row that have to end quickly until their place is not slow any more.
pub(crate) const QUICK_ROW: u32 = 8;

/// How long what a peer can hold is left to threads after it has held up one.
const PEER_MEMORY: Duration = Duration::from_secs(10 * 60);

/// How long a slow place is remembered at which nothing happens.
const MEMORY: Duration = Duration::from_secs(60);

/// Jobs of a slow place, and how quickly they end.
#[derive(Debug)]
pub(crate) struct Slow<O> {
    pub(crate) waiting: VecDeque<Job<O>>,
    pub(crate) is_busy: bool,
    /// It is what a peer can hold.
    pub(crate) is_peers: bool,
    /// When the peer has held up a job last.
    pub(crate) blamed_at: Option<Instant>,
    /// Of the job that it is busy with.
    pub(crate) progress: Option<Progress>,
    /// Jobs in a row that ended quickly.
    pub(crate) quick: u32,
    /// When its last job began or ended.
    pub(crate) seen: Instant,
}

impl<O> Slow<O> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            is_busy: false,
            is_peers: false,
            blamed_at: None,
            progress: None,
            quick: 0,
            seen: Instant::now(),
        }
    }

    pub(crate) fn of_peer() -> Self {
        Self { is_peers: true, ..Self::new() }
    }

    pub(crate) fn job_ended(&mut self, was_quick: bool) {
        (self.is_busy, self.progress, self.seen) = (false, None, Instant::now());
        self.quick = if was_quick { self.quick + 1 } else { 0 };
        if self.is_peers && !was_quick {
            self.blamed_at = Some(Instant::now());
        }
    }

    /// Whether its jobs can be run as all others again.
    pub(crate) fn is_over(&self) -> bool {
        let is_forgiven = self.blamed_at.is_none_or(|at| at.elapsed() >= PEER_MEMORY);
        match self.is_peers {
            true => is_forgiven && self.waiting.is_empty(),
            false => self.quick >= QUICK_ROW,
        }
    }

    /// How long it is remembered while nothing happens there.
    pub(crate) fn memory(&self) -> Duration {
        if self.is_peers { PEER_MEMORY } else { MEMORY }
    }

    /// Whether its job is held up by a peer, which is seen when it takes long.
    pub(crate) fn is_held_up(&self) -> bool {
        self.seen.elapsed() >= BLOCKING_THRESHOLD
            && self.progress.as_ref().is_some_and(Progress::is_at_peer)
    }

    pub(crate) fn hangs(&self) -> bool {
        self.is_busy
            && self.seen.elapsed() >= HANG
            && self.progress.as_ref().is_none_or(Progress::is_stalled)
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.is_busy || !self.waiting.is_empty()
    }
}

//! Slow file systems, whose jobs run on threads of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::job::{BLOCKING_THRESHOLD, Job};
use super::progress::{HANG, Progress};

/// Quick jobs in a row after which a file system is no longer slow.
pub(crate) const QUICK_ROW: u32 = 8;

/// Time during which a peer's pipe is left to threads after the peer has blocked one.
const PEER_MEMORY: Duration = Duration::from_secs(10 * 60);

/// Time during which an unused slow file system is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// Jobs of a slow file system, and their speed.
#[derive(Debug)]
pub(crate) struct Slow<O> {
    pub(crate) waiting: VecDeque<Job<O>>,
    pub(crate) is_busy: bool,
    /// It stands for what a peer can block.
    pub(crate) is_peers: bool,
    /// Last time that the peer has blocked a job.
    pub(crate) blamed_at: Option<Instant>,
    /// Progress of the running job.
    pub(crate) progress: Option<Progress>,
    /// Quick jobs in a row.
    pub(crate) quick: u32,
    /// Start or end of its last job.
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

    /// Returns whether its jobs can run like all others again.
    pub(crate) fn is_over(&self) -> bool {
        let is_forgiven = self.blamed_at.is_none_or(|at| at.elapsed() >= PEER_MEMORY);
        match self.is_peers {
            true => is_forgiven && self.waiting.is_empty(),
            false => self.quick >= QUICK_ROW,
        }
    }

    /// Returns how long it is remembered while unused.
    pub(crate) fn memory(&self) -> Duration {
        if self.is_peers { PEER_MEMORY } else { MEMORY }
    }

    /// Returns whether its long job is blocked by a peer.
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

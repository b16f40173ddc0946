//! Work that touches files.
//!
//! A job owns what it works on and brings it back in its outcome, so that the loop never shares
//! anything with it. Where a job runs is decided here and nowhere else: at present at once, on
//! the loop's own thread. Users must not depend on that: to them a job ends some time later.

use std::collections::VecDeque;

/// Jobs and their outcomes.
#[derive(Debug)]
pub struct Jobs<O> {
    ended: VecDeque<O>,
}

impl<O> Jobs<O> {
    pub(super) fn new() -> Self {
        Self { ended: VecDeque::new() }
    }

    /// Runs `work`.
    pub(super) fn submit(&mut self, work: impl FnOnce() -> O + Send + 'static) {
        self.ended.push_back(work());
    }

    /// Whether no job is running or has an outcome that was not looked at.
    pub(super) fn are_idle(&self) -> bool {
        self.ended.is_empty()
    }

    /// The outcome of a job that has ended, in the order in which they ended.
    pub(super) fn take_ended(&mut self) -> Option<O> {
        self.ended.pop_front()
    }
}

//! Questions to the supervisor, and their answers.

use std::os::fd::{AsFd, OwnedFd};

use crate::event::Registered;
use crate::sys::pipe::{self, State};

/// Answer to a question.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The store has everything that was asked about.
    pub(crate) is_taken: bool,
    /// Some messages may have been lost on the way.
    pub(crate) is_doubtful: bool,
    /// Names that were sent.
    pub(crate) names: Vec<Box<str>>,
    /// Names that were removed before.
    pub(crate) removed: Vec<Box<str>>,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) answer: Answer,
    pub(super) sentinel: Sentinel,
    /// Ends when the supervisor has processed everything before it.
    pub(super) barrier: Registered<OwnedFd>,
}

/// A pipe whose other end is only in the store.
#[derive(Debug)]
pub(super) struct Sentinel {
    pub(super) name: Box<str>,
    pub(super) reader: Registered<OwnedFd>,
}

pub(super) fn has_ended(pipe: &Registered<OwnedFd>) -> bool {
    pipe::state(pipe.as_fd()).is_ok_and(|state| state == State::AtEnd)
}

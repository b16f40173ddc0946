//! What all sets share.

use crate::backing::Backing;
use crate::log::Log;
use crate::poller::Poller;
use crate::user::Users;

/// What all sets share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) backing: Backing,
    pub(crate) poller: Poller,
    pub(crate) log: Log,
    pub(crate) users: Users,
    /// Fds that all sets have together at the most; the process's limit allows no more.
    pub(crate) fds_max: usize,
    /// Fds that all sets have.
    pub(crate) fds: usize,
    /// What daemons say about themselves is passed on.
    pub(crate) passes_state_on: bool,
    /// A daemon was ready, since this was taken.
    pub(crate) was_ready: bool,
}

impl Context {
    /// Returns whether there is room for another fd.
    pub(crate) fn has_room(&self) -> bool {
        self.fds < self.fds_max
    }
}

//! Fds for a process that is about to be started.

use std::os::fd::{OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::close;

/// Above all numbers that they are to have in the end, so that none is in another's way.
const FIRST: RawFd = 4096;

/// Copies of fds that stay open in whatever is started, until this is dropped.
#[derive(Debug)]
pub(super) struct PassedOn(Vec<RawFd>);

impl PassedOn {
    pub(super) fn new(fds: &[OwnedFd]) -> Self {
        let copy = |fd: &OwnedFd| fcntl(fd, FcntlArg::F_DUPFD(FIRST)).expect("a copy of an fd");
        Self(fds.iter().map(copy).collect())
    }

    /// Their numbers, separated by blanks.
    pub(super) fn numbers(&self) -> String {
        self.0.iter().map(RawFd::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for PassedOn {
    fn drop(&mut self) {
        for &number in &self.0 {
            // Nobody else knows it, and there is nothing to do about an error.
            close(number).ok();
        }
    }
}

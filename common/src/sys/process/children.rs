//! Child processes.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::sys::calls;

/// Children that are reaped in one call.
const REAPED_AT_ONCE_MAX: usize = 256;

/// Reaps ended children of the calling thread, up to a limit. Returns whether the limit was
/// reached.
///
/// Children of other threads are left to those, which need their exit status. The first thread
/// starts none, and has the inherited ones.
pub fn reap_children_of_thread() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD | WaitPidFlag::__WALL;
    let reap = || {
        let reaped = waitpid(None, Some(flags)).map_err(io::Error::from);
        let reaped = calls::or_else(reaped, || Ok(waitid(Id::All, flags | WaitPidFlag::WEXITED)?));
        reaped.is_ok_and(|status| status.pid().is_some())
    };
    (0..REAPED_AT_ONCE_MAX).all(|_| reap())
}

/// Waits for the end of a child.
///
/// # Errors
/// As `wait4(2)`.
pub fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    calls::or_else(child.wait(), || {
        let id = Id::Pid(Pid::from_raw(child.id().cast_signed()));
        match waitid(id, WaitPidFlag::WEXITED)? {
            WaitStatus::Exited(_, status) => Ok(ExitStatus::from_raw(status << 8)),
            WaitStatus::Signaled(_, signal, _) => Ok(ExitStatus::from_raw(signal as i32)),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    })
}

//! Processes: knowing them by pidfd, ending them, waiting for their end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use common::server::{Caller, Core};
use common::sys::process;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::owner::Owner;

/// How long after SIGTERM a process gets SIGKILL, libvirt's value.
pub(crate) const TERM_PERIOD: Duration = Duration::from_millis(1600);

/// How long the daemon's own end may wait for processes to end, all in all. libvirt's value for
/// each of them.
const STOP_PERIOD: Duration = Duration::from_secs(3);

/// A pidfd of `pid`, registered by `caller`. The caller's own is had from its socket where the
/// kernel can do that (6.5), which is proof against a pid that was given to another meanwhile.
///
/// # Errors
/// When the process is unknown or cannot be told for sure from another.
pub(crate) fn pidfd<O>(core: &mut Core<O>, caller: Caller, pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    if pid == caller.peer.pid {
        match core.peer_pidfd(caller.client) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => {}
            result => return result,
        }
    } else if !numbers_processes_as_we_do(caller.peer.pid) {
        return Err(io::Error::other("it was named by a process of another pid namespace"));
    }
    process::pidfd_open(pid)
}

/// Whether the process has ended; a zombie has.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Signals an owner; gives whether it could be. One that has ended needs no signal.
pub(crate) fn signal(owner: &Owner, signal: Signal) -> bool {
    let guest = &owner.guest;
    let Some(pidfd) = &owner.pidfd else {
        tracing::error!(
            target: "locking.lock_daemon",
            "{guest} goes on without its leases: it must end, but cannot be signalled for sure"
        );
        return false;
    };
    match process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => false,
        Err(error) => {
            tracing::error!(
                target: "locking.lock_daemon", "Unable to send {signal} to {guest}: {error}"
            );
            false
        }
    }
}

/// Ends all of them, at once and within one period, in which nothing else is done.
pub(crate) fn end_all(owners: &[&Owner]) {
    let begin = Instant::now();
    for owner in owners.iter().filter(|owner| signal(owner, Signal::SIGTERM)) {
        tracing::warn!(
            target: "locking.lock_daemon",
            "This daemon stops: {}, which has leases, was sent SIGTERM", owner.guest
        );
    }
    wait_all(owners, begin + TERM_PERIOD);
    for owner in owners.iter().filter(|owner| !owner.has_ended()) {
        if signal(owner, Signal::SIGKILL) {
            tracing::warn!(
                target: "locking.lock_daemon", "{} has not ended; sent SIGKILL", owner.guest
            );
        }
    }
    wait_all(owners, begin + STOP_PERIOD);
    for owner in owners.iter().filter(|owner| !owner.has_ended()) {
        tracing::error!(
            target: "locking.lock_daemon", "{} has not ended and loses its leases", owner.guest
        );
    }
}

fn wait_all(owners: &[&Owner], deadline: Instant) {
    let mut left: Vec<BorrowedFd<'_>> =
        owners.iter().filter_map(|owner| owner.pidfd.as_ref()).map(AsFd::as_fd).collect();
    loop {
        left.retain(|pidfd| !has_ended(pidfd));
        let time = deadline.saturating_duration_since(Instant::now());
        if left.is_empty() || time.is_zero() {
            return;
        }
        let mut polled: Vec<_> =
            left.iter().map(|pidfd| PollFd::new(*pidfd, PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                return tracing::error!(
                    target: "locking.lock_daemon", "Unable to wait for guests: {error}"
                );
            }
        }
    }
}

/// Whether a pid that this process names means the same process to us. One of another pid
/// namespace (a container) has pids of its own and shows with more than one.
fn numbers_processes_as_we_do(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.is_some_and(|pids| pids.split_whitespace().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = process::pidfd_open(child.id().cast_signed()).unwrap();
        assert!(!has_ended(&pidfd));
        process::pidfd_send_signal(&pidfd, Signal::SIGKILL).unwrap();
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(20_000_u16)).unwrap();
        assert!(has_ended(&pidfd), "still there, as nobody has reaped it");
        child.wait().unwrap();
        assert!(has_ended(&pidfd));
    }

    #[test]
    fn we_number_processes_as_we_do_and_nobody_knows_of_process_0() {
        assert!(numbers_processes_as_we_do(std::process::id().cast_signed()));
        assert!(!numbers_processes_as_we_do(0));
    }
}

//! Processes: knowing them by pidfd, ending them, waiting for their end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
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

/// What is known of the process that a pid stands for.
#[derive(Debug)]
pub(crate) enum Found {
    /// This one, which may have ended meanwhile.
    Process(OwnedFd),
    /// None: it has ended for sure.
    Dead,
    /// It may be there or not, or be another's; and why it is not known.
    Unknown(io::Error),
}

/// The highest pid that a process can have. libvirt does not check pids, so that somebody may
/// register what is none: above this, a pid that no process has is no proof that one has died.
pub(crate) fn pid_max() -> i32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The process with this pid, registered by `caller`. The caller's own is had from its socket
/// where the kernel can do that (6.5), which is proof against a pid that was given to another
/// meanwhile.
pub(crate) fn find<O>(core: &mut Core<O>, caller: Caller, pid: u32, pid_max: i32) -> Found {
    let Some(pid) = possible(pid, pid_max) else {
        return Found::Unknown(Errno::ESRCH.into());
    };
    if pid == caller.peer.pid {
        match core.peer_pidfd(caller.client) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => {}
            result => return result.into(),
        }
    } else if let Err(error) = check_numbers_processes_as_we_do(caller.peer.pid) {
        return Found::Unknown(error);
    }
    process::pidfd_open(pid).into()
}

/// The process with this pid, of which it is known only that it has leases.
pub(crate) fn find_holder(pid: u32, pid_max: i32) -> Found {
    match possible(pid, pid_max) {
        Some(pid) => process::pidfd_open(pid).into(),
        None => Found::Unknown(Errno::ESRCH.into()),
    }
}

fn possible(pid: u32, pid_max: i32) -> Option<i32> {
    i32::try_from(pid).ok().filter(|pid| (1..=pid_max).contains(pid))
}

/// Whether the process has ended; a zombie has.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Signals an owner; gives whether it could be. One that has ended needs no signal.
pub(crate) fn signal(owner: &Owner, signal: Signal) -> bool {
    if owner.has_ended() {
        return false;
    }
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
    let pidfds = owners.iter().filter_map(|owner| owner.pidfd.as_ref());
    let mut left: Vec<_> =
        pidfds.map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)).collect();
    while !left.is_empty() {
        let time = deadline.saturating_duration_since(Instant::now());
        match poll(&mut left, PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => return,
            Ok(_) => left.retain(|polled| !polled.any().unwrap_or(true)),
            Err(Errno::EINTR) => {}
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
fn check_numbers_processes_as_we_do(pid: i32) -> io::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    if pids.is_some_and(|pids| pids.split_whitespace().count() == 1) {
        Ok(())
    } else {
        Err(io::Error::other("it was named by a process of another pid namespace"))
    }
}

impl From<io::Result<OwnedFd>> for Found {
    /// Of what gives a pidfd for a pid of our own numbering.
    fn from(result: io::Result<OwnedFd>) -> Self {
        match result {
            Ok(pidfd) => Self::Process(pidfd),
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Self::Dead,
            Err(error) => Self::Unknown(error),
        }
    }
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
    fn no_process_with_a_possible_pid_is_a_dead_one() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(pid <= pid_max());
        assert!(matches!(process::pidfd_open(pid).into(), Found::Process(_)));
        child.wait().unwrap();
        assert!(matches!(process::pidfd_open(pid).into(), Found::Dead));
        assert!(matches!(process::pidfd_open(0).into(), Found::Unknown(_)));
    }

    #[test]
    fn we_number_processes_as_we_do_and_nobody_knows_of_process_0() {
        check_numbers_processes_as_we_do(std::process::id().cast_signed()).unwrap();
        check_numbers_processes_as_we_do(0).unwrap_err();
    }
}

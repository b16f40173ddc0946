//! Signals to owners, and the wait for their end.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use common::sys::timeout::timeout;
use common::sys::{pidfd, process};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;

use crate::message::log_about;
use crate::owner::entry::Owner;

/// Time between SIGTERM and SIGKILL; libvirt's value.
pub(crate) const TERM_PERIOD: Duration = Duration::from_millis(1600);

/// Time that a stop waits for all owners to end. libvirt's value for each of them.
const STOP_PERIOD: Duration = Duration::from_secs(3);

/// Signals an owner unless it has ended. Returns whether the signal was sent.
pub(crate) fn signal(owner: &Owner, signal: Signal) -> bool {
    if owner.has_ended() {
        return false;
    }
    let guest = &owner.guest;
    if owner.identity.is_outside() {
        log_about!(
            error,
            guest,
            "Unable to terminate {guest}: it is outside of this daemon's pid namespace"
        );
        return false;
    }
    // Its end would be that of everyone's leases.
    if owner.identity.number(guest) == Some(std::process::id()) {
        log_about!(
            error,
            guest,
            "Unable to terminate {guest}, which loses its leases: its pid is this daemon's own"
        );
        return false;
    }
    let Some(pidfd) = &owner.pidfd else {
        log_about!(
            error,
            guest,
            "Unable to terminate {guest}, which loses its leases: there is no pidfd to signal it by"
        );
        return false;
    };
    match pidfd::send_signal(pidfd, signal) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => false,
        Err(error) => {
            log_about!(error, guest, "Unable to send {signal} to {guest}: {error}");
            false
        }
    }
}

/// Terminates owners, all at once and within one period, in which nothing else is done.
pub(crate) fn terminate_all(owners: &[&Owner]) {
    let begin = Instant::now();
    for owner in owners.iter().filter(|owner| signal(owner, Signal::SIGTERM)) {
        let guest = &owner.guest;
        log_about!(warn, guest, "This daemon stops: {guest}, which has leases, was sent SIGTERM");
    }
    kill_at(owners, begin + TERM_PERIOD);
    wait_all(&pidfds(owners), begin + STOP_PERIOD);
    for owner in owners.iter().filter(|owner| !owner.has_ended()) {
        let guest = &owner.guest;
        log_about!(error, guest, "{guest} has not ended and loses its leases");
    }
}

/// Completes the terminations that are under way, as the next process may not do it.
pub(crate) fn complete_terminations<'a>(owners: impl Iterator<Item = &'a Owner>) {
    let owners: Vec<_> = owners.filter(|owner| owner.termination.is_some()).collect();
    let deadlines = owners.iter().filter_map(|owner| owner.termination.as_ref());
    if let Some(deadline_ms) = deadlines.map(|termination| termination.deadline_ms).max() {
        let left = Duration::from_millis(deadline_ms.saturating_sub(process::boot_time_ms()));
        kill_at(&owners, Instant::now() + left.min(TERM_PERIOD));
    }
}

/// Waits for owners to end, and kills the others.
fn kill_at(owners: &[&Owner], deadline: Instant) {
    wait_all(&pidfds(owners), deadline);
    for owner in owners.iter().filter(|owner| !owner.has_ended()) {
        if signal(owner, Signal::SIGKILL) {
            let guest = &owner.guest;
            log_about!(warn, guest, "{guest} has not ended; sent SIGKILL");
        }
    }
}

fn pidfds<'a>(owners: &[&'a Owner]) -> Vec<BorrowedFd<'a>> {
    owners.iter().filter_map(|owner| owner.pidfd.as_ref()).map(AsFd::as_fd).collect()
}

/// Waits for processes to end.
pub(crate) fn wait_all(pidfds: &[impl AsFd], deadline: Instant) {
    let mut left: Vec<_> =
        pidfds.iter().map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)).collect();
    while !left.is_empty() {
        let time = deadline.saturating_duration_since(Instant::now());
        match poll(&mut left, timeout(time)) {
            Ok(0) => return,
            Ok(_) => left.retain(|polled| !polled.any().unwrap_or(true)),
            Err(Errno::EINTR) => {}
            Err(error) => {
                return tracing::error!(
                    target: "locking.lock_daemon", "Unable to wait for guests to end: {error}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::PollTimeout;

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd::open(child.id().cast_signed()).unwrap();
        assert!(!pidfd::has_ended(&pidfd));
        pidfd::send_signal(&pidfd, Signal::SIGKILL).unwrap();
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(20_000_u16)).unwrap();
        assert!(pidfd::has_ended(&pidfd), "still there, as nobody has reaped it");
        child.wait().unwrap();
        assert!(pidfd::has_ended(&pidfd));
    }
}

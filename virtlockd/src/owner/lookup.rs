//! Processes that owners are: finding them, when they are registered and when they are taken over.

use std::io;
use std::os::fd::OwnedFd;

use common::sys::calls::is_refused;
use common::sys::pidfd;
use nix::errno::Errno;

use crate::owner::identity::{Identity, Known, Way};
use crate::protocol::Guest;

/// What is found of the process that somebody has registered.
#[derive(Debug)]
pub(crate) enum Found {
    /// This one, which may have ended meanwhile.
    Process(OwnedFd),
    /// None: it has ended for sure.
    Dead,
    /// It may be there or not, or be another's; and why it is not known.
    Unknown(io::Error),
}

/// The process with a number that somebody who numbers them as we do has registered. libvirt does
/// not check that: above the highest pid that there can be, a number that no process has is no proof
/// that one has died.
pub(crate) fn by_number(pid: u32) -> Found {
    match i32::try_from(pid).map_err(|_| Errno::ESRCH.into()).and_then(pidfd::open) {
        Err(error) if is_none_there(&error) && pid > pid_max() => Found::Unknown(error),
        result => result.into(),
    }
}

/// The process of a guest of which this is known from before.
pub(crate) fn again(guest: &Guest, known: &Known) -> Found {
    let Some(number) = known.number(guest) else {
        return Found::Unknown(Errno::ESRCH.into());
    };
    let Ok(signed) = i32::try_from(number) else {
        return Found::Unknown(Errno::ESRCH.into());
    };
    let found = match known.identity {
        None if known.way == Way::Number => by_number(number),
        _ => pidfd::open(signed).into(),
    };
    let Found::Process(pidfd) = found else { return found };
    if pidfd::has_ended(&pidfd) {
        return Found::Dead;
    }
    let is_same = match (known.identity, known.way) {
        (Some(identity), _) => Identity::of(&pidfd, signed).and_then(|found| identity.is(found)),
        (None, Way::Number) => Some(true),
        (None, _) => pidfd::numbers(&pidfd).ok().map(|numbers| is_last(&numbers, guest.pid)),
    };
    match is_same {
        Some(true) => Found::Process(pidfd),
        // Its number would not be another's if it had not ended.
        Some(false) => Found::Dead,
        None => Found::Unknown(io::Error::other("nobody can tell whether its pid is another's")),
    }
}

/// Whether the kernel does not give pidfds of peers.
pub(crate) fn cannot_tell(error: &io::Error) -> bool {
    is_refused(error) || error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32)
}

/// The highest pid that a process can get now. It can be changed at any time.
fn pid_max() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn is_last(numbers: &[i32], pid: u32) -> bool {
    numbers.last().is_some_and(|&number| u32::try_from(number) == Ok(pid))
}

pub(super) fn is_none_there(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESRCH as i32)
}

impl From<io::Result<OwnedFd>> for Found {
    /// Of what gives a pidfd for a process that was there.
    fn from(result: io::Result<OwnedFd>) -> Self {
        match result {
            Ok(pidfd) => Self::Process(pidfd),
            Err(error) if is_none_there(&error) => Self::Dead,
            Err(error) => Self::Unknown(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(pid: u32) -> Guest {
        Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid }
    }

    fn known(way: Way, identity: Option<Identity>) -> Known {
        Known { way, identity, namespace: None }
    }

    #[test]
    fn no_process_with_a_possible_pid_is_a_dead_one() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        assert!(pid <= pid_max());
        assert!(matches!(by_number(pid), Found::Process(_)));
        child.wait().unwrap();
        assert!(matches!(by_number(pid), Found::Dead));
        for impossible in [0, 5_000_000, u32::MAX] {
            assert!(matches!(by_number(impossible), Found::Unknown(_)), "{impossible}");
        }
    }

    #[test]
    fn a_process_is_found_again_unless_its_number_is_anothers() {
        let guest = guest(std::process::id());
        let number = guest.pid.cast_signed();
        let pidfd = pidfd::open(number).unwrap();
        let own = Identity::of(&pidfd, number).unwrap();
        let other = match own {
            Identity::Inode(inode) => Identity::Inode(inode + 1),
            Identity::Start(start) => Identity::Start(start + 1),
        };
        let incomparable = match own {
            Identity::Inode(_) => Identity::Start(0),
            Identity::Start(_) => Identity::Inode(0),
        };
        for way in [Way::Number, Way::Connection { number: guest.pid }] {
            assert!(matches!(again(&guest, &known(way, Some(own))), Found::Process(_)));
            assert!(matches!(again(&guest, &known(way, None)), Found::Process(_)));
            assert!(matches!(again(&guest, &known(way, Some(other))), Found::Dead));
            assert!(matches!(again(&guest, &known(way, Some(incomparable))), Found::Unknown(_)));
        }
        assert!(matches!(again(&guest, &Known::NEVER), Found::Unknown(_)));
    }
}

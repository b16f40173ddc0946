//! Lookup of the processes that owners are, at registration and after a restart.

use std::io;
use std::os::fd::OwnedFd;

use common::sys::calls::is_refused;
use common::sys::pidfd;
use nix::errno::Errno;

use crate::owner::identity::{FoundBy, OwnerIdentity, ProcessIdentity};
use crate::protocol::Guest;

/// Highest pid that the kernel can be set to give: its `PID_MAX_LIMIT` on 64 bits.
const PID_MAX: u32 = 4_194_304;

/// Result of a lookup.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// The process, which may have ended meanwhile.
    Process(OwnedFd),
    /// The process has ended for certain.
    Dead,
    /// The process is unknown, for this reason.
    Unknown(io::Error),
}

/// Looks up a pid that was registered by a process that numbers processes as this daemon does.
/// libvirt does not check the pid: above the highest one possible, a missing process does not prove
/// that one has ended.
pub(crate) fn by_number(pid: u32) -> Lookup {
    match i32::try_from(pid).map_err(|_| Errno::ESRCH.into()).and_then(pidfd::open) {
        Err(error) if is_no_process(&error) && pid > pid_max() => Lookup::Unknown(error),
        result => result.into(),
    }
}

/// Looks up the process of a guest again by its identity.
pub(crate) fn by_identity(guest: &Guest, identity: &OwnerIdentity) -> Lookup {
    let Some(number) = identity.number(guest) else {
        return Lookup::Unknown(io::Error::other("it has no pid in this daemon's pid namespace"));
    };
    let Ok(signed) = i32::try_from(number) else {
        return Lookup::Unknown(Errno::ESRCH.into());
    };
    let found = match identity.process_identity {
        None if identity.found_by == FoundBy::Number => by_number(number),
        _ => pidfd::open(signed).into(),
    };
    let Lookup::Process(pidfd) = found else { return found };
    if pidfd::has_ended(&pidfd) {
        return Lookup::Dead;
    }
    let is_same = match (identity.process_identity, identity.found_by) {
        (Some(process_identity), _) => {
            ProcessIdentity::of(&pidfd).and_then(|found| process_identity.is_same(found))
        }
        (None, FoundBy::Number) => Some(true),
        (None, _) => pidfd::numbers(&pidfd).ok().map(|numbers| is_last(&numbers, guest.pid)),
    };
    match is_same {
        Some(true) => Lookup::Process(pidfd),
        // Its pid would not be another's if it had not ended.
        Some(false) => Lookup::Dead,
        None => Lookup::Unknown(io::Error::other(
            "cannot tell whether its pid was given to another process",
        )),
    }
}

/// Returns whether the kernel does not give pidfds of peers.
pub(crate) fn lacks_peer_pidfd(error: &io::Error) -> bool {
    is_refused(error) || error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32)
}

/// Returns the highest pid that a process can get now. The administrator can change it at any time.
/// Where `/proc/sys` is not there, it may be the highest one possible.
fn pid_max() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(PID_MAX)
}

fn is_last(numbers: &[i32], pid: u32) -> bool {
    numbers.last().is_some_and(|&number| u32::try_from(number) == Ok(pid))
}

pub(super) fn is_no_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESRCH as i32)
}

impl From<io::Result<OwnedFd>> for Lookup {
    /// Converts the result of getting a pidfd for a process that has existed.
    fn from(result: io::Result<OwnedFd>) -> Self {
        match result {
            Ok(pidfd) => Self::Process(pidfd),
            Err(error) if is_no_process(&error) => Self::Dead,
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

    fn identity(found_by: FoundBy, process_identity: Option<ProcessIdentity>) -> OwnerIdentity {
        OwnerIdentity { found_by, process_identity, namespace: None }
    }

    #[test]
    fn no_process_with_a_possible_pid_is_a_dead_one() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        assert!(pid <= pid_max());
        assert!(matches!(by_number(pid), Lookup::Process(_)));
        child.wait().unwrap();
        assert!(matches!(by_number(pid), Lookup::Dead));
        for impossible in [0, 5_000_000, u32::MAX] {
            assert!(matches!(by_number(impossible), Lookup::Unknown(_)), "{impossible}");
        }
    }

    #[test]
    fn a_process_is_found_again_unless_its_number_is_anothers() {
        let guest = guest(std::process::id());
        let number = guest.pid.cast_signed();
        let pidfd = pidfd::open(number).unwrap();
        let own = ProcessIdentity::of(&pidfd).unwrap();
        let other = match own {
            ProcessIdentity::Inode(inode) => ProcessIdentity::Inode(inode + 1),
            ProcessIdentity::Start(start) => ProcessIdentity::Start(start + 1),
        };
        let incomparable = match own {
            ProcessIdentity::Inode(_) => ProcessIdentity::Start(0),
            ProcessIdentity::Start(_) => ProcessIdentity::Inode(0),
        };
        for found_by in [FoundBy::Number, FoundBy::Connection { number: Some(guest.pid) }] {
            assert!(matches!(
                by_identity(&guest, &identity(found_by, Some(own))),
                Lookup::Process(_)
            ));
            assert!(matches!(by_identity(&guest, &identity(found_by, None)), Lookup::Process(_)));
            assert!(matches!(by_identity(&guest, &identity(found_by, Some(other))), Lookup::Dead));
            assert!(matches!(
                by_identity(&guest, &identity(found_by, Some(incomparable))),
                Lookup::Unknown(_)
            ));
        }
        assert!(matches!(by_identity(&guest, &OwnerIdentity::UNIDENTIFIED), Lookup::Unknown(_)));
    }
}

//! Process that registers a guest, and how it numbers processes.

use std::io;
use std::os::fd::OwnedFd;

use common::server::Caller;
use common::sys::pidfd;
use nix::errno::Errno;

use crate::error::file::is_shortage;
use crate::outcome::Core;
use crate::owner::identity::{FoundBy, OwnerIdentity};
use crate::owner::lookup::{Lookup, by_number, is_no_process, lacks_peer_pidfd};

/// Process that registers a guest.
#[derive(Debug)]
pub(crate) struct Registrant {
    /// Identity of the guest.
    pub(crate) identity: OwnerIdentity,
    /// Whether it is the guest itself.
    pub(crate) is_guest: bool,
    /// Pidfd of the registering process, if it could be had.
    pidfd: io::Result<OwnedFd>,
    /// Reason why its numbering cannot be told.
    numbering_error: Option<io::Error>,
}

/// Numbering of processes by another process.
enum Numbering {
    /// As this daemon does.
    Ours,
    /// In another pid namespace, where it has this pid itself.
    Other(Option<i32>),
    /// Unknown, as the process has ended.
    Ended,
    /// Unknown, now or for good.
    Unknown(io::Error),
}

impl Registrant {
    /// Identifies the process that registers a guest with this pid. `depth` is the number of pid
    /// namespaces in which this daemon has a pid.
    pub(crate) fn of(core: &mut Core, caller: Caller, pid: u32, depth: usize) -> Self {
        let peer = caller.peer.pid;
        let pidfd = peer_pidfd(core, caller);
        let is_same_number = pid != 0 && u32::try_from(peer) == Ok(pid);
        let mut numbering_error = None;
        let (identity, is_guest) = match numbering(peer, &pidfd, depth) {
            Numbering::Ours => (OwnerIdentity::BY_NUMBER, is_same_number),
            Numbering::Ended if is_same_number => (OwnerIdentity::BY_NUMBER, true),
            Numbering::Ended => (OwnerIdentity::UNIDENTIFIED, false),
            Numbering::Other(own) => other_namespace(peer, own, pid),
            Numbering::Unknown(error) => {
                numbering_error = Some(error);
                (OwnerIdentity::BY_NUMBER, is_same_number)
            }
        };
        Self { identity, is_guest, pidfd, numbering_error }
    }

    /// Looks up the guest's process.
    pub(crate) fn find(self, pid: u32) -> Lookup {
        match (self.is_guest, self.identity.found_by) {
            _ if self.numbering_error.as_ref().is_some_and(is_shortage) => {
                unknown(self.numbering_error)
            }
            (true, _) => self.pidfd.into(),
            (false, FoundBy::Number) if self.numbering_error.is_some() => {
                unknown(self.numbering_error)
            }
            (false, FoundBy::Number) => by_number(pid),
            (false, _) => Lookup::Unknown(io::Error::other(
                "it was registered by a process in another pid namespace, or by one that has ended",
            )),
        }
    }
}

/// Returns the pidfd of a peer. Where the kernel has it (6.5) it is that of the socket, which
/// cannot be another process with the peer's pid.
pub(crate) fn peer_pidfd(core: &mut Core, caller: Caller) -> io::Result<OwnedFd> {
    match core.peer_pidfd(caller.client) {
        Err(error) if lacks_peer_pidfd(&error) => pidfd::open(caller.peer.pid),
        result => result,
    }
}

fn numbering(peer: i32, pidfd: &io::Result<OwnedFd>, depth: usize) -> Numbering {
    if peer <= 0 {
        // It is not in a namespace below.
        return Numbering::Other(None);
    }
    let numbers = match pidfd {
        Ok(pidfd) => match pidfd::numbers(pidfd) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => pidfd::numbers_of(peer),
            result => result,
        },
        Err(error) if is_no_process(error) => return Numbering::Ended,
        Err(_) => pidfd::numbers_of(peer),
    };
    match numbers {
        Ok(numbers) if numbers.is_empty() => Numbering::Ended,
        Ok(numbers) if numbers.contains(&0) => Numbering::Other(None),
        Ok(numbers) if numbers.len() == depth => Numbering::Ours,
        Ok(numbers) => Numbering::Other(numbers.last().copied()),
        Err(error) => Numbering::Unknown(error),
    }
}

fn unknown(error: Option<io::Error>) -> Lookup {
    Lookup::Unknown(error.unwrap_or_else(|| Errno::EINVAL.into()))
}

fn other_namespace(peer: i32, own: Option<i32>, pid: u32) -> (OwnerIdentity, bool) {
    let namespace = pidfd::namespace(peer).ok();
    let is_guest = pid != 0 && own.and_then(|own| u32::try_from(own).ok()) == Some(pid);
    let found_by = match u32::try_from(peer) {
        Ok(number) if is_guest => FoundBy::Connection { number },
        _ => FoundBy::Unidentified,
    };
    (OwnerIdentity { found_by, process_identity: None, namespace }, is_guest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_number_processes_as_we_do() {
        let own = std::process::id().cast_signed();
        let (pidfd, depth) = (pidfd::open(own), pidfd::own_depth().unwrap());
        assert!(matches!(numbering(own, &pidfd, depth), Numbering::Ours));
        assert!(matches!(numbering(own, &pidfd, depth + 1), Numbering::Other(Some(_))));
        assert!(matches!(numbering(0, &pidfd, depth), Numbering::Other(None)));
        let nobody = Err(Errno::ESRCH.into());
        assert!(matches!(numbering(own, &nobody, depth), Numbering::Ended));
    }
}

//! Process that registers a guest, and how it numbers processes.

use std::io;
use std::os::fd::OwnedFd;

use common::server::Caller;
use common::sys::pidfd;
use nix::errno::Errno;

use crate::error::file::is_shortage;
use crate::outcome::Core;
use crate::owner::identity::{FoundBy, OwnerIdentity, ProcessIdentity};
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
    /// In another pid namespace, where it has this pid itself, if that can be seen.
    Other(Option<i32>),
    /// Unknown, as the process has ended.
    Ended,
    /// Unknown, now or for good.
    Unknown(io::Error),
}

impl Registrant {
    /// Identifies the process that registers a guest with this pid. `depth` is the number of pid
    /// namespaces in which this daemon has a pid.
    pub(crate) fn of(
        core: &mut Core,
        caller: Caller,
        pid: u32,
        is_restricted: bool,
        depth: usize,
    ) -> Self {
        let peer = caller.peer.pid;
        let pidfd = peer_pidfd(core, caller);
        let numbering = numbering(peer, &pidfd, depth);
        Self::numbered(numbering, (peer, pidfd), pid, is_restricted)
    }

    /// Identifies the guest by how the registering process numbers processes.
    fn numbered(
        numbering: Numbering,
        (peer, pidfd): (i32, io::Result<OwnedFd>),
        pid: u32,
        is_restricted: bool,
    ) -> Self {
        let is_same_number = pid != 0 && u32::try_from(peer) == Ok(pid);
        let mut numbering_error = None;
        let (identity, is_guest) = match numbering {
            Numbering::Ours => (OwnerIdentity::BY_NUMBER, is_same_number),
            Numbering::Ended if is_same_number => (OwnerIdentity::BY_NUMBER, true),
            Numbering::Ended => (OwnerIdentity::UNIDENTIFIED, false),
            Numbering::Other(own) => {
                let is_guest =
                    pid != 0 && own.map_or(is_restricted, |own| u32::try_from(own) == Ok(pid));
                (elsewhere(peer, is_guest, pidfd.as_ref().ok()), is_guest)
            }
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
/// cannot be another process with the peer's pid. A peer outside of this pid namespace has no other.
pub(crate) fn peer_pidfd(core: &mut Core, caller: Caller) -> io::Result<OwnedFd> {
    match core.peer_pidfd(caller.client) {
        Err(error) if lacks_peer_pidfd(&error) && caller.peer.pid > 0 => {
            pidfd::open(caller.peer.pid)
        }
        Err(error) if lacks_peer_pidfd(&error) => Err(io::Error::other(
            "it is outside of this daemon's pid namespace, and the kernel has no SO_PEERPIDFD",
        )),
        result => result,
    }
}

fn numbering(peer: i32, pidfd: &io::Result<OwnedFd>, depth: usize) -> Numbering {
    if peer <= 0 {
        // It is not in a namespace below.
        let numbers = pidfd.as_ref().ok().and_then(|pidfd| pidfd::numbers(pidfd).ok());
        let numbers = numbers.filter(|numbers| !numbers.contains(&0));
        return Numbering::Other(numbers.and_then(|numbers| numbers.last().copied()));
    }
    let numbers = match pidfd {
        Ok(pidfd) => match pidfd::numbers(pidfd) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => pidfd::numbers_of(peer),
            result => result,
        },
        Err(error) if is_no_process(error) => return Numbering::Ended,
        Err(_) => pidfd::numbers_of(peer),
    };
    by_numbers(numbers, pidfd, depth)
}

/// Tells the numbering by the pids that a process has.
fn by_numbers(
    numbers: io::Result<Vec<i32>>,
    pidfd: &io::Result<OwnedFd>,
    depth: usize,
) -> Numbering {
    match numbers {
        Ok(numbers) if numbers.is_empty() => Numbering::Ended,
        Ok(numbers) if numbers.contains(&0) => Numbering::Other(None),
        Ok(numbers) if numbers.len() == depth => Numbering::Ours,
        Ok(numbers) => Numbering::Other(numbers.last().copied()),
        Err(error) if is_shortage(&error) => Numbering::Unknown(error),
        Err(error) => by_namespace(pidfd).unwrap_or(Numbering::Unknown(error)),
    }
}

/// Tells the numbering by the namespace alone, where `/proc` shows neither this process nor the peer.
fn by_namespace(pidfd: &io::Result<OwnedFd>) -> Option<Numbering> {
    let theirs = pidfd::namespace(pidfd.as_ref().ok()?).ok()?;
    let is_ours = theirs == pidfd::own_namespace()?;
    Some(if is_ours { Numbering::Ours } else { Numbering::Other(None) })
}

fn unknown(error: Option<io::Error>) -> Lookup {
    Lookup::Unknown(error.unwrap_or_else(|| Errno::EINVAL.into()))
}

/// Returns the identity that a process of another pid namespace registers: its own, if it is the
/// guest.
fn elsewhere(peer: i32, is_guest: bool, pidfd: Option<&OwnedFd>) -> OwnerIdentity {
    let namespace = pidfd.and_then(|pidfd| pidfd::namespace(pidfd).ok());
    if !is_guest {
        return OwnerIdentity { namespace, ..OwnerIdentity::UNIDENTIFIED };
    }
    let number = u32::try_from(peer).ok().filter(|&number| number > 0);
    OwnerIdentity {
        found_by: FoundBy::Connection { number },
        process_identity: pidfd.and_then(ProcessIdentity::of),
        namespace,
    }
}

#[cfg(test)]
mod tests;

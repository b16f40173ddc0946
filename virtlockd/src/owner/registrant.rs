//! Process that registers a guest, and how it numbers processes.

use std::io;
use std::os::fd::OwnedFd;

use common::server::Caller;
use common::sys::pidfd;
use nix::errno::Errno;

use crate::error::file::is_shortage;
use crate::outcome::Core;
use crate::owner::identity::{FoundBy, OwnerIdentity};
use crate::owner::lookup::{Lookup, by_number, cannot_tell, is_none_there};

/// Who has registered a guest.
#[derive(Debug)]
pub(crate) struct Registrant {
    /// What the guest is known by.
    pub(crate) identity: OwnerIdentity,
    /// Whether it is the guest itself.
    pub(crate) is_guest: bool,
    /// The registrant's process, as far as it could be had.
    pidfd: io::Result<OwnedFd>,
    /// Why it cannot be told how the registrant numbers processes.
    unclear: Option<io::Error>,
}

/// How a process numbers others.
enum Numbering {
    /// As we do.
    Ours,
    /// In a namespace of its own, where it has this number itself.
    Other(Option<i32>),
    /// It has ended, and nobody can tell any more.
    Ended,
    /// It cannot be seen just now, or never.
    Unclear(io::Error),
}

impl Registrant {
    /// Finds out by whom, and so how, a guest with this number is registered. `depth` is in how
    /// many pid namespaces we have a number.
    pub(crate) fn of(core: &mut Core, caller: Caller, pid: u32, depth: usize) -> Self {
        let peer = caller.peer.pid;
        let pidfd = peer_pidfd(core, caller);
        let is_same_number = pid != 0 && u32::try_from(peer) == Ok(pid);
        let mut unclear = None;
        let (identity, is_guest) = match numbering(peer, &pidfd, depth) {
            Numbering::Ours => (OwnerIdentity::BY_NUMBER, is_same_number),
            Numbering::Ended if is_same_number => (OwnerIdentity::BY_NUMBER, true),
            Numbering::Ended => (OwnerIdentity::UNIDENTIFIED, false),
            Numbering::Other(own) => other_namespace(peer, own, pid),
            Numbering::Unclear(error) => {
                unclear = Some(error);
                (OwnerIdentity::BY_NUMBER, is_same_number)
            }
        };
        Self { identity, is_guest, pidfd, unclear }
    }

    /// The guest's process.
    pub(crate) fn find(self, pid: u32) -> Lookup {
        match (self.is_guest, self.identity.found_by) {
            _ if self.unclear.as_ref().is_some_and(is_shortage) => unclear(self.unclear),
            (true, _) => self.pidfd.into(),
            (false, FoundBy::Number) if self.unclear.is_some() => unclear(self.unclear),
            (false, FoundBy::Number) => by_number(pid),
            (false, _) => Lookup::Unknown(io::Error::other(
                "it was named by a process of another pid namespace, or one that has ended",
            )),
        }
    }
}

/// The process that connected. It is had from its socket where the kernel can do that (6.5), which is
/// proof against a pid that was given to another meanwhile.
pub(crate) fn peer_pidfd(core: &mut Core, caller: Caller) -> io::Result<OwnedFd> {
    match core.peer_pidfd(caller.client) {
        Err(error) if cannot_tell(&error) => pidfd::open(caller.peer.pid),
        result => result,
    }
}

fn numbering(peer: i32, pidfd: &io::Result<OwnedFd>, depth: usize) -> Numbering {
    if peer <= 0 {
        // It is not below us.
        return Numbering::Other(None);
    }
    let numbers = match pidfd {
        Ok(pidfd) => match pidfd::numbers(pidfd) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => pidfd::numbers_of(peer),
            result => result,
        },
        Err(error) if is_none_there(error) => return Numbering::Ended,
        Err(_) => pidfd::numbers_of(peer),
    };
    match numbers {
        Ok(numbers) if numbers.is_empty() => Numbering::Ended,
        Ok(numbers) if numbers.contains(&0) => Numbering::Other(None),
        Ok(numbers) if numbers.len() == depth => Numbering::Ours,
        Ok(numbers) => Numbering::Other(numbers.last().copied()),
        Err(error) => Numbering::Unclear(error),
    }
}

fn unclear(error: Option<io::Error>) -> Lookup {
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

//! Process that registers a guest, and how it numbers processes.

use std::io;
use std::os::fd::OwnedFd;

use common::server::Caller;
use common::sys::pidfd;
use nix::errno::Errno;

use crate::error::file::is_shortage;
use crate::outcome::Core;
use crate::owner::identity::{Known, Way};
use crate::owner::lookup::{Found, by_number, cannot_tell, is_none_there};

/// Who has registered a guest.
#[derive(Debug)]
pub(crate) struct Registrant {
    /// What the guest is known by.
    pub(crate) known: Known,
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
        let (known, is_guest) = match numbering(peer, &pidfd, depth) {
            Numbering::Ours => (Known::BY_NUMBER, is_same_number),
            Numbering::Ended if is_same_number => (Known::BY_NUMBER, true),
            Numbering::Ended => (Known::NEVER, false),
            Numbering::Other(own) => elsewhere(peer, own, pid),
            Numbering::Unclear(error) => {
                unclear = Some(error);
                (Known::BY_NUMBER, is_same_number)
            }
        };
        Self { known, is_guest, pidfd, unclear }
    }

    /// The guest's process.
    pub(crate) fn find(self, pid: u32) -> Found {
        match (self.is_guest, self.known.way) {
            _ if self.unclear.as_ref().is_some_and(is_shortage) => unclear(self.unclear),
            (true, _) => self.pidfd.into(),
            (false, Way::Number) if self.unclear.is_some() => unclear(self.unclear),
            (false, Way::Number) => by_number(pid),
            (false, _) => Found::Unknown(io::Error::other(
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

fn unclear(error: Option<io::Error>) -> Found {
    Found::Unknown(error.unwrap_or_else(|| Errno::EINVAL.into()))
}

fn elsewhere(peer: i32, own: Option<i32>, pid: u32) -> (Known, bool) {
    let namespace = pidfd::namespace(peer).ok();
    let is_guest = pid != 0 && own.and_then(|own| u32::try_from(own).ok()) == Some(pid);
    let way = match u32::try_from(peer) {
        Ok(number) if is_guest => Way::Connection { number },
        _ => Way::Never,
    };
    (Known { way, identity: None, namespace }, is_guest)
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

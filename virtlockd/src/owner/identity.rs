//! Who an owner is: more than a number, as that means another process after the first has ended,
//! and in another pid namespace.
//!
//! An owner is known in one of three [ways](FoundBy), and stays so whatever becomes of this process:
//! all of [`OwnerIdentity`] is in the state document and in the journal.
//!
//! - **By number.** A process that numbers processes as we do (it has a number in as many pid
//!   namespaces as we have, and we see it) has registered the number.
//! - **By connection.** A process in a pid namespace below ours has registered its own number: the
//!   innermost of the numbers that the kernel has for the peer of the connection is the registered
//!   one. So the owner is the peer, and our number for it is the peer's.
//! - **Never.** Anything else: another process of another pid namespace has registered it, the
//!   number is none that a process can have, or nobody can tell who has registered it. That nobody
//!   here has such a number proves nothing, so its leases stay until somebody gives them back.
//!
//! Whether a process that is found later by its number is the same as before is said by its
//! [`ProcessIdentity`].

use std::os::fd::AsFd;

use common::sys::{pidfd, process};

use crate::protocol::Guest;

/// What tells a process from all that have had its number or will have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ProcessIdentity {
    /// Its inode on pidfs, Linux 6.9 and newer.
    Inode(u64),
    /// When it started, in ticks since boot.
    Start(u64),
}

/// How an owner was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FoundBy {
    /// By the number that was registered.
    Number,
    /// By its own connection; and our number for it.
    Connection { number: u32 },
    /// It was not.
    Unidentified,
}

/// What is known of the process that an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OwnerIdentity {
    pub(crate) found_by: FoundBy,
    pub(crate) process_identity: Option<ProcessIdentity>,
    /// The pid namespace, if another, that the registered number is of; `None` also where the
    /// kernel does not tell us.
    pub(crate) namespace: Option<u64>,
}

/// What stands for one owner among those who live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OwnerKey {
    /// A process by our number.
    Number(u32),
    /// A process by our number, and the one that it has registered.
    Connection { number: u32, pid: u32 },
    /// A number of a namespace; where that is not known the guest has to be the same.
    OtherNamespace { namespace: Option<u64>, uuid: Option<[u8; 16]>, pid: u32 },
}

impl ProcessIdentity {
    /// The identity of a process that has, or had, this number here.
    pub(crate) fn of(pidfd: impl AsFd, number: i32) -> Option<Self> {
        // A pidfd that came from a socket is of no use where the next one would be another thing.
        if pidfd::are_supported()
            && let Some(inode) = pidfd::inode(&pidfd)
        {
            return Some(Self::Inode(inode));
        }
        let start = process::start_time(number).ok()?;
        // As long as it has not ended nobody else has its number.
        (!pidfd::has_ended(pidfd)).then_some(Self::Start(start))
    }

    /// Whether both are one process; `None` when that cannot be told.
    pub(crate) fn is(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Inode(_), Self::Start(_)) | (Self::Start(_), Self::Inode(_)) => None,
            (one, other) => Some(one == other),
        }
    }
}

impl OwnerIdentity {
    /// What is known of nobody but the number.
    pub(crate) const BY_NUMBER: Self =
        Self { found_by: FoundBy::Number, process_identity: None, namespace: None };

    /// What is known of a number that says nothing.
    pub(crate) const UNIDENTIFIED: Self =
        Self { found_by: FoundBy::Unidentified, process_identity: None, namespace: None };

    /// Our number for a guest.
    pub(crate) fn number(&self, guest: &Guest) -> Option<u32> {
        match self.found_by {
            FoundBy::Number => Some(guest.pid),
            FoundBy::Connection { number } => Some(number),
            FoundBy::Unidentified => None,
        }
    }

    /// Under what a guest of which this is known is found again, the surest first.
    pub(crate) fn keys(&self, guest: &Guest) -> [Option<OwnerKey>; 2] {
        let (namespace, pid) = (self.namespace, guest.pid);
        let uuid = namespace.is_none().then_some(guest.uuid);
        let elsewhere = OwnerKey::OtherNamespace { namespace, uuid, pid };
        match self.found_by {
            FoundBy::Number => [Some(OwnerKey::Number(pid)), None],
            FoundBy::Connection { number } => {
                [Some(OwnerKey::Connection { number, pid }), Some(elsewhere)]
            }
            FoundBy::Unidentified => [Some(elsewhere), None],
        }
    }

    /// Whether what is known here and there may be of one process.
    pub(crate) fn may_be_same(&self, other: &Self) -> bool {
        let identities = self.process_identity.zip(other.process_identity);
        identities.and_then(|(one, other)| one.is(other)).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(uuid: u8, pid: u32) -> Guest {
        Guest { uuid: [uuid; 16], name: (*b"vm").into(), id: 1, pid }
    }

    #[test]
    fn identities_of_one_kind_can_be_compared() {
        use ProcessIdentity::{Inode, Start};
        assert_eq!(Inode(1).is(Inode(1)), Some(true));
        assert_eq!(Start(1).is(Start(2)), Some(false));
        assert_eq!(Inode(1).is(Start(1)), None);
    }

    #[test]
    fn a_number_of_an_unknown_namespace_needs_the_guest_as_well() {
        let unknown = OwnerIdentity::UNIDENTIFIED;
        assert_ne!(unknown.keys(&guest(1, 7)), unknown.keys(&guest(2, 7)));
        let identity = OwnerIdentity { namespace: Some(5), ..unknown };
        assert_eq!(identity.keys(&guest(1, 7)), identity.keys(&guest(2, 7)));
        let connected = OwnerIdentity { found_by: FoundBy::Connection { number: 70 }, ..identity };
        assert_eq!(connected.keys(&guest(1, 7))[1], identity.keys(&guest(2, 7))[0]);
        assert_eq!(
            OwnerIdentity::BY_NUMBER.keys(&guest(1, 7)),
            OwnerIdentity::BY_NUMBER.keys(&guest(2, 7))
        );
    }
}

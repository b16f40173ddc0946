//! Identity of an owner. A pid is not enough, as it means another process after the first has
//! ended, and in another pid namespace.
//!
//! An owner is found in one of three [ways](FoundBy). The [`OwnerIdentity`] is in the state
//! document and in the journal, so it outlives this daemon's process.
//!
//! - **By number.** The registering process numbers processes as this daemon does: it has a pid in
//!   as many pid namespaces, and is visible here.
//! - **By connection.** A process in a pid namespace below has registered its own pid: the
//!   innermost pid that the kernel has for the peer of the connection is the registered one. So the
//!   owner is the peer, and its pid here is the peer's.
//! - **Unidentified.** Anything else: another process of another pid namespace has registered it,
//!   no process can have such a pid, or the registering process cannot be determined. That no
//!   process here has the pid proves nothing, so the leases stay until they are released.
//!
//! The [`ProcessIdentity`] tells whether a process that is found later by its pid is the same one.

use std::os::fd::AsFd;

use common::sys::{pidfd, process};

use crate::protocol::Guest;

/// Identity of a process among all that have its pid at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ProcessIdentity {
    /// Inode on pidfs, Linux 6.9 and newer.
    Inode(u64),
    /// Start time, in ticks since boot.
    Start(u64),
}

/// Way in which an owner was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FoundBy {
    /// By the registered pid.
    Number,
    /// By its own connection, with its pid here.
    Connection { number: u32 },
    /// Not at all.
    Unidentified,
}

/// Identity of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OwnerIdentity {
    pub(crate) found_by: FoundBy,
    pub(crate) process_identity: Option<ProcessIdentity>,
    /// Pid namespace of the registered pid, if it is another; `None` also where the kernel does not
    /// tell.
    pub(crate) namespace: Option<u64>,
}

/// Key of an owner that is not known to be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OwnerKey {
    /// Pid here.
    Number(u32),
    /// Pid here, and the registered one.
    Connection { number: u32, pid: u32 },
    /// Pid of another namespace. Where that is unknown the guest has to be the same.
    OtherNamespace { namespace: Option<u64>, uuid: Option<[u8; 16]>, pid: u32 },
}

impl ProcessIdentity {
    /// Returns the identity of a process that has, or had, this pid.
    pub(crate) fn of(pidfd: impl AsFd, number: i32) -> Option<Self> {
        // A pidfd from a socket does not help where others cannot be opened later.
        if pidfd::are_supported()
            && let Some(inode) = pidfd::inode(&pidfd)
        {
            return Some(Self::Inode(inode));
        }
        let start = process::start_time(number).ok()?;
        // Before its end no other process has its pid.
        (!pidfd::has_ended(pidfd)).then_some(Self::Start(start))
    }

    /// Returns whether both are one process, or `None` if that cannot be told.
    pub(crate) fn is_same(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Inode(_), Self::Start(_)) | (Self::Start(_), Self::Inode(_)) => None,
            (one, other) => Some(one == other),
        }
    }
}

impl OwnerIdentity {
    /// Identity of an owner that was registered by its pid here, before it is looked up.
    pub(crate) const BY_NUMBER: Self =
        Self { found_by: FoundBy::Number, process_identity: None, namespace: None };

    /// Identity of an owner whose pid means nothing here.
    pub(crate) const UNIDENTIFIED: Self =
        Self { found_by: FoundBy::Unidentified, process_identity: None, namespace: None };

    /// Returns the pid here.
    pub(crate) fn number(&self, guest: &Guest) -> Option<u32> {
        match self.found_by {
            FoundBy::Number => Some(guest.pid),
            FoundBy::Connection { number } => Some(number),
            FoundBy::Unidentified => None,
        }
    }

    /// Returns the keys that a guest is found by, the surest first.
    pub(crate) fn keys(&self, guest: &Guest) -> [Option<OwnerKey>; 2] {
        let (namespace, pid) = (self.namespace, guest.pid);
        let uuid = namespace.is_none().then_some(guest.uuid);
        let other_namespace = OwnerKey::OtherNamespace { namespace, uuid, pid };
        match self.found_by {
            FoundBy::Number => [Some(OwnerKey::Number(pid)), None],
            FoundBy::Connection { number } => {
                [Some(OwnerKey::Connection { number, pid }), Some(other_namespace)]
            }
            FoundBy::Unidentified => [Some(other_namespace), None],
        }
    }

    /// Returns whether both may be of one process.
    pub(crate) fn may_be_same(&self, other: &Self) -> bool {
        let identities = self.process_identity.zip(other.process_identity);
        identities.and_then(|(one, other)| one.is_same(other)).unwrap_or(true)
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
        assert_eq!(Inode(1).is_same(Inode(1)), Some(true));
        assert_eq!(Start(1).is_same(Start(2)), Some(false));
        assert_eq!(Inode(1).is_same(Start(1)), None);
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

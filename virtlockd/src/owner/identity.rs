//! Identity of an owner. A pid is not enough, as it means another process after the first has
//! ended, and in another pid namespace.
//!
//! An owner is found in one of three [ways](FoundBy). The [`OwnerIdentity`] is in the state
//! document and in the journal, so it outlives this daemon's process.
//!
//! - **By number.** The registering process numbers processes as this daemon does: it has a pid in
//!   as many pid namespaces, and is visible here.
//! - **By connection.** A process of another pid namespace has registered its own pid: the owner is
//!   the peer. From a namespace below, or where `/proc` shows one above, the innermost pid that the
//!   kernel has for the peer is the registered one. Where that pid is not to be seen, as from outside
//!   of this namespace, the peer has restricted the connection: libvirt does that in the guest's
//!   process, and nowhere else. Outside there is no pid here, and a pidfd only from the connection.
//! - **Unidentified.** Anything else: another process of another pid namespace has registered it,
//!   no process can have such a pid, or the registering process cannot be determined. That no
//!   process here has the pid proves nothing, so the leases stay until they are released.
//!
//! Of another namespace, owners are told apart by guest and pid, and by namespace as far as the
//! kernel tells it. Where that leaves two, a process that speaks for one of them speaks for neither.
//!
//! The [`ProcessIdentity`] tells whether a process that is found later by its pid is the same one.

use std::os::fd::AsFd;

use common::sys::pidfd;

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
    /// By its own connection, with its pid here unless it is outside of this pid namespace.
    Connection { number: Option<u32> },
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
    /// Guest and pid, of another namespace.
    Elsewhere { uuid: [u8; 16], pid: u32 },
}

impl ProcessIdentity {
    /// Returns the identity of the process of a pidfd.
    pub(crate) fn of(pidfd: impl AsFd) -> Option<Self> {
        // A pidfd from a socket does not help where others cannot be opened later.
        if pidfd::are_supported()
            && let Some(inode) = pidfd::inode(&pidfd)
        {
            return Some(Self::Inode(inode));
        }
        let start = pidfd::start_time(&pidfd).ok()?;
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
            FoundBy::Connection { number } => number,
            FoundBy::Unidentified => None,
        }
    }

    /// Returns whether its process was found, and is outside of this daemon's pid namespace: it
    /// cannot be signalled, nor be looked up again.
    pub(crate) fn is_outside(&self) -> bool {
        self.found_by == FoundBy::Connection { number: None }
    }

    /// Returns whether it is of another pid namespace, as far as is known.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.found_by != FoundBy::Number
    }

    /// Returns whether it was found by its own connection.
    pub(crate) fn is_by_connection(&self) -> bool {
        matches!(self.found_by, FoundBy::Connection { .. })
    }

    /// Returns the key that a guest is found by.
    pub(crate) fn key(&self, guest: &Guest) -> OwnerKey {
        match self.found_by {
            FoundBy::Number => OwnerKey::Number(guest.pid),
            FoundBy::Connection { .. } | FoundBy::Unidentified => {
                OwnerKey::Elsewhere { uuid: guest.uuid, pid: guest.pid }
            }
        }
    }

    /// Returns whether both, of which one lives, may be of one process.
    pub(crate) fn may_be_same(&self, other: &Self) -> bool {
        self.may_share_namespace(other) && self.is_same_process(other).unwrap_or(true)
    }

    /// Returns whether both, of which one lives, are of one process for certain, if they have one key.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_one = |one: Option<u64>, other| one.is_some() && one == other;
        let number = |of: &Self| match of.found_by {
            FoundBy::Connection { number } => number.map(u64::from),
            FoundBy::Number | FoundBy::Unidentified => None,
        };
        self.may_share_namespace(other)
            && self.is_same_process(other).unwrap_or_else(|| {
                is_one(self.namespace, other.namespace) || is_one(number(self), number(other))
            })
    }

    /// Returns whether both may be of one pid namespace.
    pub(crate) fn may_share_namespace(&self, other: &Self) -> bool {
        self.namespace.zip(other.namespace).is_none_or(|(one, other)| one == other)
    }

    fn is_same_process(&self, other: &Self) -> Option<bool> {
        let (one, other) = self.process_identity.zip(other.process_identity)?;
        one.is_same(other)
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
    fn a_number_of_another_namespace_needs_the_guest_as_well() {
        let unknown = OwnerIdentity::UNIDENTIFIED;
        assert_ne!(unknown.key(&guest(1, 7)), unknown.key(&guest(2, 7)));
        let found_by = FoundBy::Connection { number: Some(70) };
        let connected = OwnerIdentity { found_by, ..unknown };
        assert_eq!(connected.key(&guest(1, 7)), unknown.key(&guest(1, 7)));
        let by_number = OwnerIdentity::BY_NUMBER;
        assert_eq!(by_number.key(&guest(1, 7)), by_number.key(&guest(2, 7)));
    }

    #[test]
    fn two_are_one_if_something_says_so_and_nothing_contradicts() {
        let outside = OwnerIdentity {
            found_by: FoundBy::Connection { number: None },
            ..OwnerIdentity::UNIDENTIFIED
        };
        let of = |inode| OwnerIdentity {
            process_identity: Some(ProcessIdentity::Inode(inode)),
            ..outside
        };
        let within = |namespace| OwnerIdentity { namespace: Some(namespace), ..outside };
        let here = |number| OwnerIdentity {
            found_by: FoundBy::Connection { number: Some(number) },
            ..outside
        };
        for (one, other, is_same, may_be_same) in [
            (outside, outside, false, true),
            (of(1), of(1), true, true),
            (of(1), of(2), false, false),
            (within(5), within(5), true, true),
            (within(5), within(6), false, false),
            (here(70), here(70), true, true),
            (OwnerIdentity { namespace: Some(5), ..of(1) }, within(6), false, false),
        ] {
            assert_eq!(one.is_same(&other), is_same, "{one:?} {other:?}");
            assert_eq!(one.may_be_same(&other), may_be_same, "{one:?} {other:?}");
        }
    }
}

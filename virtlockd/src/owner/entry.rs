//! Owner: a process that leases belong to.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use common::event::{Registered, TimerId};
use common::sys::{pidfd, process};

use crate::ids::ResourceId;
use crate::message::log_about;
use crate::owner::identity::{OwnerIdentity, OwnerKey, ProcessIdentity};
use crate::protocol::Guest;

/// Milliseconds of one clock tick, the unit of start times.
const TICK_MS: u64 = 10;

/// Process that leases belong to.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Guest as last registered.
    pub(crate) guest: Arc<Guest>,
    /// Identity, which outlives this daemon's process.
    pub(crate) identity: OwnerIdentity,
    /// Watched for the end of the process; `None` if it is not watched.
    pub(crate) pidfd: Option<Registered<OwnedFd>>,
    /// Whether it is not watched for a shortage that may be over at the next attempt.
    pub(crate) can_retry_watch: bool,
    /// Time of its first registration, in milliseconds since boot.
    pub(crate) since_boot_ms: u64,
    /// Whether the log says that it is not watched.
    pub(crate) is_unwatched_logged: bool,
    /// Whether the log says that it cannot be ended.
    pub(crate) is_outside_logged: bool,
    /// Termination under way.
    pub(crate) termination: Option<Termination>,
    /// Whether it has ended for certain.
    pub(crate) is_dead: bool,
    /// Number of connections registered for it.
    pub(super) connections: usize,
    /// Number of those among them that are its own.
    pub(super) own_connections: usize,
    pub(super) leases: BTreeSet<ResourceId>,
    /// Key that it is found by in the table.
    pub(super) key: Option<OwnerKey>,
}

/// Termination of an owner, which got SIGTERM.
#[derive(Debug)]
pub(crate) struct Termination {
    /// Timer for SIGKILL; `None` once that was sent.
    pub(crate) timer: Option<TimerId>,
    /// Time of SIGKILL, in milliseconds since boot.
    pub(crate) deadline_ms: u64,
}

impl Owner {
    /// Creates an owner without connections and leases that is registered now.
    pub(super) fn new(guest: &Arc<Guest>, identity: OwnerIdentity, is_dead: bool) -> Self {
        Self {
            guest: Arc::clone(guest),
            identity,
            pidfd: None,
            can_retry_watch: false,
            since_boot_ms: process::boot_time_ms(),
            is_unwatched_logged: false,
            is_outside_logged: false,
            termination: None,
            is_dead,
            connections: 0,
            own_connections: 0,
            leases: BTreeSet::new(),
            key: None,
        }
    }

    /// Returns whether it must not run on without this daemon: it has an own connection and a
    /// lease, or is being terminated.
    pub(crate) fn depends_on_daemon(&self) -> bool {
        self.termination.is_some() || (self.has_own_connection() && !self.leases.is_empty())
    }

    pub(crate) fn has_own_connection(&self) -> bool {
        self.own_connections > 0
    }

    /// Returns whether a process is the one that this owner was registered for, while it is not
    /// watched; `None` when that cannot be told.
    pub(crate) fn is_process(&self, pidfd: impl AsFd) -> Option<bool> {
        if let Some(process_identity) = self.identity.process_identity {
            return process_identity.is_same(ProcessIdentity::of(pidfd)?);
        }
        // A process that had the number at the registration and has it now has had it all the time.
        let start = pidfd::start_time(pidfd).ok()?;
        Some(start.saturating_mul(TICK_MS) <= self.since_boot_ms)
    }

    /// Tells, with its first lease, that it could not be ended.
    pub(crate) fn warn_if_outside(&mut self) {
        if self.identity.is_outside() && !std::mem::replace(&mut self.is_outside_logged, true) {
            let guest = &self.guest;
            log_about!(
                warn,
                guest,
                "{guest} has a lease, and is outside of this daemon's pid namespace: it cannot be ended from \
                 here, whatever becomes of its leases"
            );
        }
    }

    pub(crate) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Returns whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_dead || self.pidfd.as_ref().is_some_and(pidfd::has_ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        let guest = Guest { uuid: [1; 16], name: (*b"web1").into(), id: 1, pid: 1 };
        Owner::new(&Arc::new(guest), OwnerIdentity::BY_NUMBER, false)
    }

    #[test]
    fn who_began_after_the_registration_is_another_process() {
        let (mut owner, own) = (owner(), pidfd::open(std::process::id().cast_signed()).unwrap());
        assert_eq!(owner.is_process(&own), Some(true));
        owner.since_boot_ms = 0;
        assert_eq!(owner.is_process(&own), Some(false));
    }

    #[test]
    fn who_has_another_identity_is_another_process() {
        let (mut owner, own) = (owner(), pidfd::open(std::process::id().cast_signed()).unwrap());
        let identity = ProcessIdentity::of(&own).unwrap();
        owner.identity.process_identity = Some(identity);
        assert_eq!(owner.is_process(&own), Some(true));
        owner.identity.process_identity = Some(match identity {
            ProcessIdentity::Inode(inode) => ProcessIdentity::Inode(inode + 1),
            ProcessIdentity::Start(start) => ProcessIdentity::Start(start + 1),
        });
        assert_eq!(owner.is_process(&own), Some(false));
    }
}

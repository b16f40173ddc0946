//! Owner: a process that leases belong to.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use common::event::{Registered, TimerId};
use common::sys::{pidfd, process};

use crate::ids::ResourceId;
use crate::owner::identity::{OwnerIdentity, OwnerKey, ProcessIdentity};
use crate::protocol::Guest;

/// Milliseconds of one tick, the unit of times that the kernel tells programs.
const TICK_MS: u64 = 10;

/// A process that somebody registered.
#[derive(Debug)]
pub(crate) struct Owner {
    /// As last registered.
    pub(crate) guest: Arc<Guest>,
    /// What outlives this process of who it is.
    pub(crate) identity: OwnerIdentity,
    /// Proof of who it is, and watched for its end; `None` if it could not be had.
    pub(crate) pidfd: Option<Registered<OwnedFd>>,
    /// It could not be had for a shortage that may be over the next time.
    pub(crate) can_retry_watch: bool,
    /// When it was first registered, in milliseconds since boot.
    pub(crate) since_boot_ms: u64,
    /// It has been said that its end will not be noticed.
    pub(crate) is_unwatched_logged: bool,
    /// It has been asked to end.
    pub(crate) termination: Option<Termination>,
    /// It has ended for sure.
    pub(crate) is_dead: bool,
    /// Connections registered for it.
    pub(super) connections: usize,
    /// Those among them that are its own.
    pub(super) own_connections: usize,
    pub(super) leases: BTreeSet<ResourceId>,
    /// Under what it is found.
    pub(super) keys: [Option<OwnerKey>; 2],
}

/// What an owner that was asked to end has to expect.
#[derive(Debug)]
pub(crate) struct Termination {
    /// When this fires it is made to; it was, if there is none.
    pub(crate) timer: Option<TimerId>,
    /// When that is, in milliseconds since boot.
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
            termination: None,
            is_dead,
            connections: 0,
            own_connections: 0,
            leases: BTreeSet::new(),
            keys: [None; 2],
        }
    }

    /// Whether it must not run on without us: it is connected itself and has a lease, or has lost
    /// its leases already.
    pub(crate) fn depends_on_us(&self) -> bool {
        self.termination.is_some() || (self.own_connections > 0 && !self.leases.is_empty())
    }

    /// Returns whether a process is the one that this owner was registered for, while it is not
    /// watched; `None` when that cannot be told.
    pub(crate) fn is_process(&self, pidfd: impl AsFd, number: i32) -> Option<bool> {
        if let Some(process_identity) = self.identity.process_identity {
            return process_identity.is(ProcessIdentity::of(pidfd, number)?);
        }
        // A process that had the number at the registration and has it now has had it all the time.
        let start = process::start_time(number).ok()?;
        Some(start.saturating_mul(TICK_MS) <= self.since_boot_ms)
    }

    pub(crate) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Whether the kernel says that it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_dead || self.pidfd.as_ref().is_some_and(pidfd::has_ended)
    }
}

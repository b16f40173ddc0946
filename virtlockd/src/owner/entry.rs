//! Owner: a process that leases belong to.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use common::event::{Registered, TimerId};
use common::sys::{pidfd, process};

use crate::ids::ResourceId;
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
    /// Termination under way.
    pub(crate) termination: Option<Termination>,
    /// Whether it has ended for certain.
    pub(crate) is_dead: bool,
    /// Number of connections registered for it.
    pub(super) connections: usize,
    /// Number of those among them that are its own.
    pub(super) own_connections: usize,
    pub(super) leases: BTreeSet<ResourceId>,
    /// Keys that it is found by in the table.
    pub(super) keys: [Option<OwnerKey>; 2],
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
            termination: None,
            is_dead,
            connections: 0,
            own_connections: 0,
            leases: BTreeSet::new(),
            keys: [None; 2],
        }
    }

    /// Returns whether it must not run on without this daemon: it has an own connection and a
    /// lease, or is being terminated.
    pub(crate) fn depends_on_daemon(&self) -> bool {
        self.termination.is_some() || (self.own_connections > 0 && !self.leases.is_empty())
    }

    /// Returns whether a process is the one that this owner was registered for, while it is not
    /// watched; `None` when that cannot be told.
    pub(crate) fn is_process(&self, pidfd: impl AsFd, number: i32) -> Option<bool> {
        if let Some(process_identity) = self.identity.process_identity {
            return process_identity.is_same(ProcessIdentity::of(pidfd, number)?);
        }
        // A process that had the number at the registration and has it now has had it all the time.
        let start = process::start_time(number).ok()?;
        Some(start.saturating_mul(TICK_MS) <= self.since_boot_ms)
    }

    pub(crate) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Returns whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_dead || self.pidfd.as_ref().is_some_and(pidfd::has_ended)
    }
}

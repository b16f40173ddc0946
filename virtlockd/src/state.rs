//! State of the daemon: leases, owners, connections, and the work under way.
//!
//! The functions over the state and the loop's core are in the modules above this one.

use std::collections::{BTreeSet, HashMap};

use common::server::ClientId;
use common::sys::{pid_namespace, pidfd};

use crate::counts::Counts;
use crate::ids::ResourceId;
use crate::lease::local_locks::LocalLocks;
use crate::lockspace::incomplete_locks::IncompleteLocks;
use crate::lockspace::lease_break::LeaseBreaks;
use crate::lockspace::queue::ResourceQueue;
use crate::lockspace::table::Lockspaces;
use crate::owner::owners::Owners;
use crate::proof::policy::Policy;
use crate::proof::shared::SharedLeases;
use crate::sessions::Sessions;

/// State of the daemon.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) lockspaces: Lockspaces,
    pub(crate) owners: Owners,
    pub(crate) sessions: Sessions,
    /// Tasks under way, by resource.
    pub(crate) queues: HashMap<ResourceId, ResourceQueue>,
    /// Locks among the leases of this process that the kernel does not check.
    pub(crate) local_locks: LocalLocks,
    /// Tasks that wait for another process to give up its `fcntl(2)` lease.
    pub(crate) lease_breaks: LeaseBreaks,
    /// Leases that lack a part of their lock.
    pub(crate) incomplete_locks: IncompleteLocks,
    /// Leases on shared storage.
    pub(crate) shared: SharedLeases,
    /// Items that the fd store had no room for.
    pub(crate) unstored: BTreeSet<Unstored>,
    /// Whether owners that are not watched will be looked up again.
    pub(crate) is_watch_retry_set: bool,
    /// Number of pid namespaces in which this process has a pid.
    pub(crate) pid_namespace_depth: usize,
    /// Pid namespace of this process, if the kernel tells.
    pub(crate) pid_namespace: Option<u64>,
    pub(crate) is_stopping: bool,
    pub(crate) counts: Counts,
}

/// Item that the fd store had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unstored {
    Lease(ResourceId),
    Session(ClientId),
}

impl State {
    /// Returns the state of a daemon without leases.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            lockspaces: Lockspaces::new(),
            owners: Owners::default(),
            sessions: Sessions::default(),
            queues: HashMap::new(),
            local_locks: LocalLocks::new(),
            lease_breaks: LeaseBreaks::default(),
            incomplete_locks: IncompleteLocks::default(),
            shared: SharedLeases::new(policy),
            unstored: BTreeSet::new(),
            is_watch_retry_set: false,
            pid_namespace: pidfd::own_namespace(),
            pid_namespace_depth: pid_namespace::own_depth().unwrap_or(1),
            is_stopping: false,
            counts: Counts::default(),
        }
    }
}

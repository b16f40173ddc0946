//! Action on a resource, and its result.

use crate::error::lock::LockError;
use crate::ids::OwnerId;
use crate::lease::job::Job;
use crate::owner::registration::Registration;
use crate::protocol::{Operation, Terms};

/// Action on a resource.
#[derive(Debug)]
pub(crate) enum Action {
    Create,
    Delete,
    Acquire(Registration, Terms),
    Release(Registration),
    /// Release of all shares that an owner has of the lease.
    ReleaseAll(OwnerId),
    /// Check of the lock, in which what is missing is taken. With `convert_to_ofd` the lock becomes
    /// one that does not end with this process.
    CheckLock {
        convert_to_ofd: bool,
    },
    /// Test whether the kernel's NFS client still has the lock.
    TestLock,
}

/// Begun action.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The action waits for this job. The change of holders is in effect already: an owner does not
    /// hold a lease while it is being released.
    Job(HolderChange, Job),
    /// The action is finished, with this result.
    Finished(Result<HolderChange, LockError>),
}

/// Change of the holders of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HolderChange {
    None,
    /// This owner is a holder now, and was none.
    Gained(OwnerId),
    /// This owner was a holder, and is none now.
    Lost(OwnerId),
}

impl Begun {
    /// Finished action without any effect.
    pub(crate) const NOTHING: Self = Self::Finished(Ok(HolderChange::None));
}

impl Action {
    /// Creates the action of a client's operation.
    pub(crate) fn new(operation: Operation, registration: Registration) -> Self {
        match operation {
            Operation::Create => Self::Create,
            Operation::Delete => Self::Delete,
            Operation::Acquire(terms) => Self::Acquire(registration, terms),
            Operation::Release => Self::Release(registration),
        }
    }
}

//! Action on a resource, and its result.

use crate::error::lock::LockError;
use crate::ids::OwnerId;
use crate::lease::job::Job;
use crate::owner::registration::Registration;
use crate::protocol::{Operation, Terms};

/// What is to be done with a resource.
#[derive(Debug)]
pub(crate) enum Action {
    Create,
    Delete,
    Acquire(Registration, Terms),
    Release(Registration),
    /// Everything of an owner goes, however often it has the lease.
    ReleaseAll(OwnerId),
    /// What there is of the lock is found out, and what is missing taken; a lease of libvirt's
    /// daemon becomes one that does not end with this process where that `convert_to_ofd` it.
    CheckLock {
        convert_to_ofd: bool,
    },
}

/// What comes next of an action.
#[derive(Debug)]
pub(crate) enum Begun {
    /// This job, whose outcome the action waits for, and what has changed already: who gives a
    /// lease back does not have it while it is being released.
    Job(HolderChange, Job),
    /// Nothing, this is the result.
    Finished(Result<HolderChange, LockError>),
}

/// What an action changed about who has leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HolderChange {
    None,
    /// This owner has it, and had not before.
    Gained(OwnerId),
    /// This owner had it, and has not any more.
    Lost(OwnerId),
}

impl Begun {
    /// Nothing, as there is nothing to do.
    pub(crate) const NOTHING: Self = Self::Finished(Ok(HolderChange::None));
}

impl Action {
    /// What a client asks for.
    pub(crate) fn new(operation: Operation, registration: Registration) -> Self {
        match operation {
            Operation::Create => Self::Create,
            Operation::Delete => Self::Delete,
            Operation::Acquire(terms) => Self::Acquire(registration, terms),
            Operation::Release => Self::Release(registration),
        }
    }
}

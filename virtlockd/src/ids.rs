//! Identifiers of resources and owners, and the subjects of jobs and timers.
//!
//! The loop knows a job's and a timer's subject as a number.

/// Identifier of a resource while it is locked or worked on. It is never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ResourceId(pub(crate) u64);

/// Identifier of an owner, a process, for as long as the daemon runs, also after its pid was given
/// to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OwnerId(pub(crate) u64);

/// Subject of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobSubject {
    /// Something that is no resource, such as a lockspace's directory.
    NoResource,
    Resource(ResourceId),
    /// Owners that are being terminated.
    Terminations,
}

/// Subject of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerSubject {
    /// An owner that is being terminated.
    Owner(OwnerId),
    /// Owners that are not watched.
    WatchRetry,
    /// Leases that lack a part of their lock.
    LockRetry,
    /// Files on which another process has an `fcntl(2)` lease.
    LeaseBreakRetry,
    /// Leases on shared storage.
    Proof,
}

/// Numbers that resources and owners, which count from 1, never reach.
const NO_RESOURCE: u64 = 0;
const TERMINATIONS: u64 = u64::MAX - 1;
const WATCH_RETRY: u64 = u64::MAX - 2;
const LOCK_RETRY: u64 = u64::MAX - 3;
const LEASE_BREAK_RETRY: u64 = u64::MAX - 4;
const PROOF: u64 = u64::MAX - 5;

/// Source of the prober's reports, beside the owners' pidfds. Sources of fds have 61 bits.
pub(crate) const PROBER: u64 = 0;

/// Source of the alarm for leases on shared storage, likewise.
pub(crate) const ALARM: u64 = (1 << 61) - 1;

impl JobSubject {
    /// Returns the number for the loop.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::NoResource => NO_RESOURCE,
            Self::Resource(id) => id.0,
            Self::Terminations => TERMINATIONS,
        }
    }
}

impl From<u64> for JobSubject {
    fn from(number: u64) -> Self {
        match number {
            NO_RESOURCE => Self::NoResource,
            TERMINATIONS => Self::Terminations,
            id => Self::Resource(ResourceId(id)),
        }
    }
}

impl TimerSubject {
    /// Returns the number for the loop.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Owner(id) => id.0,
            Self::WatchRetry => WATCH_RETRY,
            Self::LockRetry => LOCK_RETRY,
            Self::LeaseBreakRetry => LEASE_BREAK_RETRY,
            Self::Proof => PROOF,
        }
    }
}

impl From<u64> for TimerSubject {
    fn from(number: u64) -> Self {
        match number {
            WATCH_RETRY => Self::WatchRetry,
            LOCK_RETRY => Self::LockRetry,
            LEASE_BREAK_RETRY => Self::LeaseBreakRetry,
            PROOF => Self::Proof,
            id => Self::Owner(OwnerId(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_known_by_their_numbers() {
        let jobs =
            [JobSubject::NoResource, JobSubject::Resource(ResourceId(1)), JobSubject::Terminations];
        for subject in jobs {
            assert_eq!(JobSubject::from(subject.number()), subject);
        }
        let timers = [
            TimerSubject::Owner(OwnerId(1)),
            TimerSubject::WatchRetry,
            TimerSubject::LockRetry,
            TimerSubject::LeaseBreakRetry,
            TimerSubject::Proof,
        ];
        for subject in timers {
            assert_eq!(TimerSubject::from(subject.number()), subject);
        }
    }
}

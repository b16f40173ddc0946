//! Locks of this process that the kernel does not tell apart.

use crate::lease::devices::Devices;
use crate::lease::inherited_posix_locks::InheritedPosixLocks;

/// What is known of files beside what the kernel knows. Clones are the same, for jobs on other
/// threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalLocks {
    /// Leases that are POSIX locks.
    pub(crate) posix: InheritedPosixLocks,
    pub(crate) devices: Devices,
}

impl LocalLocks {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { posix: InheritedPosixLocks::new(), devices: Devices::default() }
    }
}

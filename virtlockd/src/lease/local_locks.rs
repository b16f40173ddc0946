//! Locks among the leases of this process that the kernel does not check.

use crate::lease::devices::Devices;
use crate::lease::inherited_posix_locks::InheritedPosixLocks;

/// Locks among the leases of this process that the kernel does not check. Clones share the tables,
/// for jobs on other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalLocks {
    /// POSIX locks.
    pub(crate) posix: InheritedPosixLocks,
    pub(crate) devices: Devices,
}

impl LocalLocks {
    /// Creates empty tables.
    pub(crate) fn new() -> Self {
        Self { posix: InheritedPosixLocks::new(), devices: Devices::default() }
    }
}

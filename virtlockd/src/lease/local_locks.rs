//! Locks of this process that the kernel does not tell apart.

use crate::lease::devices::Devices;
use crate::lease::posix_locks::PosixFiles;

/// What is known of files beside what the kernel knows. Clones are the same, for jobs on other
/// threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// Leases that are POSIX locks.
    pub(crate) posix: PosixFiles,
    pub(crate) devices: Devices,
}

impl Files {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { posix: PosixFiles::new(), devices: Devices::default() }
    }
}

//! Leases: locks on files, and the jobs that open, lock and release them.

pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod inherited_posix_locks;
pub(crate) mod job;
pub(crate) mod local_locks;
pub(crate) mod lock;
mod locked_file;

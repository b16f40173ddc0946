//! Counts of a file's leases, and its retained fds.

use std::fs::File;
use std::sync::Arc;

use common::sys::lock::{Hold, Mode};

/// Counts of a file's leases, and its retained fds.
#[derive(Debug, Default)]
pub(super) struct LockedFile {
    /// Leases with a POSIX lock, which all of them share.
    pub(super) leases: usize,
    /// Leases among them whose lock should be exclusive.
    pub(super) exclusive: usize,
    /// Leases, with any kind of lock, that lack a part of it.
    pub(super) incomplete: usize,
    /// Fds of released leases while there are others, and fds that were opened by accident.
    pub(super) retained: Vec<Arc<File>>,
}

impl LockedFile {
    /// Counts a lease.
    pub(super) fn count(&mut self, mode: Mode, hold: Hold) {
        self.leases += usize::from(hold.is_posix());
        self.exclusive += usize::from(hold.is_posix() && mode == Mode::Exclusive);
        self.incomplete += usize::from(!hold.is_whole());
    }

    /// Discounts a lease.
    pub(super) fn discount(&mut self, mode: Mode, hold: Hold) {
        let is_exclusive = hold.is_posix() && mode == Mode::Exclusive;
        self.leases = self.leases.saturating_sub(usize::from(hold.is_posix()));
        self.exclusive = self.exclusive.saturating_sub(usize::from(is_exclusive));
        self.incomplete = self.incomplete.saturating_sub(usize::from(!hold.is_whole()));
    }
}

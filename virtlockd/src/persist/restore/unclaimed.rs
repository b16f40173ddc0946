//! Inherited fds that no record claims.

use std::os::fd::BorrowedFd;

use common::handover::InheritedFds;
use common::sys::fd;
use common::sys::file_id::FileId;
use common::sys::lock::{Hold, Kind, Mode};

use crate::state::State;

/// Protects the files of inherited fds that no record claims: they may have POSIX locks, so they
/// must not be opened. A leased file's fd belongs to its lease, and one that was retained on
/// purpose is marked.
pub(crate) fn adopt_unclaimed(state: &State, inherited: &InheritedFds) {
    inherited.for_each(|fd| {
        let is_known = |file_id| {
            state.local_locks.posix.contains(file_id) || state.lockspaces.has_lease_of(file_id)
        };
        if fd::may_have_lock(fd) && !fd::is_marked(fd) && !FileId::of_open(fd).is_ok_and(is_known) {
            protect(state, fd);
        }
    });
}

/// Protects a file as one with a POSIX lock until this process ends.
pub(super) fn protect(state: &State, fd: BorrowedFd<'_>) {
    if let Ok(file_id) = FileId::of_open(fd) {
        state.local_locks.posix.add(file_id, Mode::Exclusive, Hold::Whole(Kind::Posix));
    }
}

//! The holder's own fd store, that of the host's supervisor: with it a crash or an upgrade of the
//! holder loses nothing.
//!
//! What a daemon stores is passed on before its message counts as read, and so is its barrier. So
//! what a daemon knows to be stored is stored twice.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use common::systemd::{Notify, StoreError};

use crate::record::Record;

/// Environment variable with the number of fds that the supervisor keeps.
const FDSTORE: &str = "FDSTORE";

/// Places that are kept free for the sockets and claims of all sets.
const SPARE_FDS: usize = 128;

/// Time for the supervisor to receive everything at the end.
const DRAIN_PERIOD: Duration = Duration::from_secs(1);

/// A supervisor that may keep fds.
#[derive(Debug)]
pub(crate) struct Backing {
    notify: Notify,
    /// Fds that it keeps; 0 for no store.
    fds_max: usize,
    losses: u64,
}

impl Backing {
    /// The supervisor of the environment, with its store.
    pub(crate) fn from_environment() -> Self {
        let notify = Notify::new(std::env::var_os("NOTIFY_SOCKET"));
        let announced = std::env::var(FDSTORE).ok().and_then(|text| text.parse().ok());
        let fds_max = announced.filter(|_| notify.has_supervisor()).unwrap_or(0);
        Self { notify, fds_max, losses: 0 }
    }

    /// The same supervisor without a store.
    pub(crate) fn for_state_only() -> Self {
        Self { fds_max: 0, ..Self::from_environment() }
    }

    /// Returns whether there is a store.
    pub(crate) fn has_store(&self) -> bool {
        self.fds_max > 0
    }

    /// Returns how many fds of daemons it keeps; `None` without a store.
    pub(crate) fn items_max(&self) -> Option<usize> {
        self.has_store().then(|| self.fds_max.saturating_sub(SPARE_FDS))
    }

    /// Notes an fd that came from the store.
    pub(crate) fn adopt(&mut self, name: &str) {
        self.notify.adopt_stored(name);
    }

    /// Keeps an fd as well. Returns whether that was possible, if there is a store.
    pub(crate) fn keep(&mut self, set: &str, record: Record<'_>, fd: BorrowedFd<'_>) -> bool {
        if !self.has_store() {
            return true;
        }
        let is_item = matches!(record, Record::Item { .. });
        if is_item && self.items_max().is_some_and(|most| self.notify.stored_fds() >= most) {
            return false;
        }
        let name = record.name(set);
        matches!(self.notify.store(&name, &[fd]), Ok(()) | Err(StoreError::NoSupervisor))
    }

    /// Drops all fds with the name of this record.
    pub(crate) fn drop(&mut self, set: &str, record: Record<'_>) {
        self.drop_named(&record.name(set));
    }

    /// Drops all fds of this name.
    pub(crate) fn drop_named(&mut self, name: &str) {
        if self.has_store() {
            self.notify.remove(name);
        }
    }

    /// Has the supervisor close `end` behind everything that was passed on. The caller keeps its
    /// own.
    ///
    /// # Errors
    /// As `sendmsg(2)`.
    pub(crate) fn barrier(&mut self, end: BorrowedFd<'_>) -> io::Result<()> {
        if self.has_store() { self.notify.barrier(end.as_fd()) } else { Ok(()) }
    }

    /// Returns whether the store has yet to take something.
    pub(crate) fn is_behind(&self) -> bool {
        self.has_store() && self.notify.waiting() > 0
    }

    /// Passes on what the supervisor could not take yet. Returns whether it has taken all.
    pub(crate) fn flush(&mut self) -> bool {
        self.notify.flush()
    }

    /// Passes on everything, within a second.
    pub(crate) fn drain(&mut self) {
        self.notify.drain(DRAIN_PERIOD);
    }

    /// Returns whether something that was passed on may be lost, since the last call. Everything is
    /// to be kept anew then.
    pub(crate) fn take_loss(&mut self) -> bool {
        let losses = self.notify.losses();
        let is_lost = std::mem::replace(&mut self.losses, losses) != losses && self.has_store();
        if is_lost {
            self.notify.forget_all();
        }
        is_lost
    }

    /// Tells the supervisor that the holder, or its daemon, is ready.
    pub(crate) fn ready(&mut self) {
        self.notify.ready();
    }

    /// Tells the supervisor that the holder ends.
    pub(crate) fn stopping(&mut self) {
        self.notify.stopping();
    }

    /// Tells the supervisor a status of one line.
    pub(crate) fn status(&mut self, text: &str) {
        self.notify.status(text);
    }
}

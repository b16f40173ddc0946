//! Fds in the supervisor's store.

use std::os::fd::BorrowedFd;

use super::{MESSAGE_FDS_MAX, NAME_BYTES_MAX, Notify, OTHERS, StoreError};
use crate::systemd::channel::Class;
use crate::systemd::names::Names;

impl Notify {
    /// Stores fds under one name, even if their other ends are closed. The caller keeps its own. A
    /// full store is not reported, except in systemd's log.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn store(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), StoreError> {
        self.store_as(name, fds, Class::Store)
    }

    /// Stores fds like [`Self::store`], at a limited pace: for items that clients can make us store
    /// as often as they like.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_paced(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), StoreError> {
        self.store_as(name, fds, Class::PacedStore)
    }

    fn store_as(
        &mut self,
        name: &str,
        fds: &[BorrowedFd<'_>],
        class: Class,
    ) -> Result<(), StoreError> {
        let channel = self.channel.as_mut().ok_or(StoreError::NoSupervisor)?;
        if !Names::is_valid(name) {
            return Err(StoreError::Name(name.to_owned()));
        }
        if fds.is_empty() || fds.len() > MESSAGE_FDS_MAX {
            return Err(StoreError::Count(fds.len()));
        }
        if !self.names.add(name, fds.len()) {
            return Err(StoreError::Full);
        }
        if let Err(error) = channel.send(store_message(name), fds, class) {
            self.names.take(name, fds.len());
            return Err(error.into());
        }
        Ok(())
    }

    /// Removes all fds of this name from the store. Their locks are released only with the last
    /// copy of the fd, so unlock first.
    pub fn remove(&mut self, name: &str) {
        self.withdraw(name);
        // Even if it was withdrawn: it may have been sent before, too.
        self.send(format!("FDSTOREREMOVE=1\nFDNAME={name}"), Class::Store);
    }

    /// Withdraws fds that are not sent yet, if there are any.
    pub fn withdraw(&mut self, name: &str) {
        self.forget(name);
        let message = store_message(name);
        self.channel.iter_mut().for_each(|channel| channel.withdraw(&message));
    }

    /// Records that the store has nothing of this name.
    pub fn forget(&mut self, name: &str) {
        self.names.take_all(name);
    }

    /// Records that the store is empty.
    pub fn forget_all(&mut self) {
        self.names = Names::default();
    }

    /// Returns whether this name was stored.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.has(name)
    }

    /// Returns the names in the store with their number of fds.
    #[must_use]
    pub fn stored(&self) -> Vec<(String, usize)> {
        self.names.all()
    }

    /// Returns the number of stored fds.
    #[must_use]
    pub fn stored_fds(&self) -> usize {
        self.names.fds()
    }

    /// Returns the number of stored fds of this name.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.names.count(name)
    }

    /// Returns whether the names of so many more fds fit, and a few others.
    #[must_use]
    pub fn has_room(&self, fds: usize) -> bool {
        self.names.has_room((fds + OTHERS) * NAME_BYTES_MAX)
    }

    /// Records an fd that is stored already: it came from the store.
    pub fn adopt_stored(&mut self, name: &str) {
        self.names.add_stored(name);
    }
}

/// Formats a message that stores fds. Without `FDPOLL=0` systemd would drop a pipe as soon as its
/// guest has died, with the guest's last output.
fn store_message(name: &str) -> String {
    format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}")
}

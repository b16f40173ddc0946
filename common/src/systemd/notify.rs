//! `sd_notify`: status reports to the supervisor, and fds that it stores for the next process of
//! this service.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::channel::{Channel, Class};
use super::names::Names;
use crate::sys::pipe;

/// Characters of a status that are sent; tools cut lines anyway.
const STATUS_CHARS_MAX: usize = 1024;

/// Fds that one message can carry, the kernel's limit.
pub const MESSAGE_FDS_MAX: usize = 253;

/// Bytes of a short name, and number of those that [`Notify::has_room`] reserves.
const NAME_BYTES_MAX: usize = 16;
const OTHERS: usize = 8;

/// Connection to the supervisor; without one, messages go nowhere.
///
/// Messages are sent in order. None of the methods waits, except [`Notify::drain`] and
/// [`Notify::settle`]; what the supervisor cannot take yet is queued until [`Notify::flush`].
#[derive(Debug, Default)]
pub struct Notify {
    channel: Option<Channel>,
    target: Option<OsString>,
    names: Names,
}

/// Reason why an fd is not stored.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no supervisor.
    #[error("there is no supervisor")]
    NoSupervisor,
    /// systemd would change the name.
    #[error("'{0}' cannot be the name of a stored fd")]
    Name(String),
    /// More fds than a message can carry, or none.
    #[error("{0} fds cannot be stored at once")]
    Count(usize),
    /// The names are too long together. systemd passes them in one variable; were it any longer, no
    /// process of this service could be started again.
    #[error("the names of stored fds would be over {} bytes", Names::BYTES_MAX)]
    Full,
    /// The message could be neither sent nor queued.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Notify {
    /// Connects to `target`, the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    #[must_use]
    pub fn new(target: Option<OsString>) -> Self {
        let target = target.filter(|target| !target.is_empty());
        let channel = target.as_deref().and_then(|target| match Channel::open(target) {
            Ok(channel) => Some(channel),
            Err(error) => {
                let target = target.display();
                tracing::warn!(target: "util.systemd", "Unable to notify {target}: {error}");
                None
            }
        });
        Self { channel, target, names: Names::default() }
    }

    /// Returns the address, as it was given.
    #[must_use]
    pub fn target(&self) -> Option<&OsStr> {
        self.target.as_deref().filter(|_| self.has_supervisor())
    }

    /// Returns whether there is a supervisor.
    #[must_use]
    pub fn has_supervisor(&self) -> bool {
        self.channel.is_some()
    }

    /// Reports that the service is ready: at the start, and after each [`Notify::reloading`].
    /// libvirt's text, without a newline.
    pub fn ready(&mut self) {
        self.tell("READY=1".to_owned());
    }

    /// Reports that the service is about to execute itself anew, or to read its configuration.
    pub fn reloading(&mut self) {
        // Fails only for clocks that do not exist.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// Reports that the service is stopping. From systemd 259 on this cannot be reverted.
    pub fn stopping(&mut self) {
        self.tell("STOPPING=1".to_owned());
    }

    /// Sends a watchdog ping.
    pub fn alive(&mut self) {
        self.tell("WATCHDOG=1".to_owned());
    }

    /// Disables the watchdog, for a successor that sends no pings.
    pub fn watchdog_off(&mut self) {
        self.tell("WATCHDOG_USEC=0".to_owned());
    }

    /// Reports a status of one line for `systemctl status`; long ones are cut.
    pub fn status(&mut self, text: &str) {
        let shown = |character: char| if character.is_control() { ' ' } else { character };
        let line: String = text.chars().map(shown).take(STATUS_CHARS_MAX).collect();
        self.tell(format!("STATUS={line}"));
    }

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

    /// Enables or disables the pace. It is disabled for a bounded wait.
    pub fn set_paced(&mut self, is_paced: bool) {
        self.channel.iter_mut().for_each(|channel| channel.set_paced(is_paced));
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

    /// Lets the supervisor close `end` once it has processed everything sent before. If that is the
    /// only write end of a pipe, the reader sees it. The caller keeps its own.
    ///
    /// # Errors
    /// `NotConnected` without a supervisor, else as `sendmsg(2)`.
    pub fn barrier(&mut self, end: BorrowedFd<'_>) -> io::Result<()> {
        let channel = self.channel.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        channel.send("BARRIER=1".to_owned(), &[end], Class::Store)
    }

    /// Sends queued messages and waits up to `patience` until the supervisor has processed
    /// everything; `false` when that was too short.
    pub fn settle(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let Ok((reader, writer)) = pipe::pipe() else { return false };
        let is_sent = self.barrier(writer.as_fd()).is_ok() && self.drain(patience);
        drop(writer);
        is_sent && pipe::wait_for_end(&reader, end.saturating_duration_since(Instant::now()))
    }

    /// Frees the descriptors of queued messages, and copies none for `period`: others need them
    /// more. The items are not stored, and count as [lost](Self::losses).
    pub fn free_descriptors(&mut self, period: Duration) {
        self.channel.iter_mut().for_each(|channel| channel.free_descriptors(period));
    }

    /// Returns the number of queued messages.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.channel.as_ref().map_or(0, Channel::waiting)
    }

    /// Returns whether the supervisor had no room for the last message.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.channel.as_ref().is_some_and(Channel::is_blocked)
    }

    /// Returns the number of the last message.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.channel.as_ref().map_or(0, Channel::last_number)
    }

    /// Returns the number up to which no message about the store is queued.
    #[must_use]
    pub fn stored_up_to(&self) -> u64 {
        self.channel.as_ref().map_or(u64::MAX, Channel::stored_up_to)
    }

    /// Returns a counter that changes when messages may have been lost: the supervisor had a new
    /// socket, or descriptors were [freed](Self::free_descriptors).
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.channel.as_ref().map_or(0, Channel::losses)
    }

    /// Sends queued messages; `false` when some still have to wait.
    pub fn flush(&mut self) -> bool {
        self.channel.as_mut().is_none_or(Channel::flush)
    }

    /// Sends queued messages and waits up to `patience`, before an exec or an exit; `false` when
    /// that was too short.
    pub fn drain(&mut self, patience: Duration) -> bool {
        self.channel.as_mut().is_none_or(|channel| channel.drain(patience))
    }

    fn tell(&mut self, text: String) {
        self.send(text, Class::State);
    }

    /// Sends a message. A failure is logged and does no harm.
    fn send(&mut self, text: String, class: Class) {
        if let Some(channel) = &mut self.channel {
            channel.send(text, &[], class).ok();
        }
    }
}

/// Formats a message that stores fds. Without `FDPOLL=0` systemd would drop a pipe as soon as its
/// guest has died, with the guest's last output.
fn store_message(name: &str) -> String {
    format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}")
}

#[cfg(test)]
mod tests;

//! `sd_notify`: telling the supervisor how we are, and having it keep fds for the next process of
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

/// Characters of a status that are sent; what shows it cuts lines anyway.
const STATUS_CHARS_MAX: usize = 1024;

/// Fds that one message can carry, the kernel's limit.
pub const MESSAGE_FDS_MAX: usize = 253;

/// Bytes of a short name, and how many of these [`Notify::has_room`] leaves.
const NAME_BYTES_MAX: usize = 16;
const OTHERS: usize = 8;

/// Where messages go; nowhere when there is no supervisor.
///
/// Messages are sent in order. None of the methods waits, but [`Notify::drain`]; what the
/// supervisor cannot take yet is kept until [`Notify::flush`].
#[derive(Debug, Default)]
pub struct Notify {
    channel: Option<Channel>,
    target: Option<OsString>,
    names: Names,
}

/// Why an fd is not in the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is nobody to store it.
    #[error("there is no supervisor")]
    NoSupervisor,
    /// systemd would call it something else.
    #[error("'{0}' cannot be the name of a stored fd")]
    Name(String),
    /// More fds than a message can carry, or none.
    #[error("{0} fds cannot be stored at once")]
    Count(usize),
    /// systemd hands all names over in one variable: were it any longer, no process of this
    /// service could be started again.
    #[error("the names of stored fds would be over {} bytes", Names::BYTES_MAX)]
    Full,
    /// It could be neither sent nor kept for later.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Notify {
    /// `target` is the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
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

    /// Where messages go, as it was given.
    #[must_use]
    pub fn target(&self) -> Option<&OsStr> {
        self.target.as_deref().filter(|_| self.has_supervisor())
    }

    /// Whether there is a supervisor.
    #[must_use]
    pub fn has_supervisor(&self) -> bool {
        self.channel.is_some()
    }

    /// Says that the service serves: at the start, and again after each [`Notify::reloading`].
    /// libvirt's text, without a newline.
    pub fn ready(&mut self) {
        self.tell("READY=1".to_owned());
    }

    /// Says that the service is about to execute itself anew, or to read its configuration.
    pub fn reloading(&mut self) {
        // It fails for clocks that do not exist only.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// Says that the service has begun to end. There is no way back from systemd 259 on.
    pub fn stopping(&mut self) {
        self.tell("STOPPING=1".to_owned());
    }

    /// Says that the service has not hung.
    pub fn alive(&mut self) {
        self.tell("WATCHDOG=1".to_owned());
    }

    /// Has no sign of life expected any more, for a successor that gives none.
    pub fn watchdog_off(&mut self) {
        self.tell("WATCHDOG_USEC=0".to_owned());
    }

    /// Says how things are, in one line for `systemctl status`; what is too long is cut.
    pub fn status(&mut self, text: &str) {
        let shown = |character: char| if character.is_control() { ' ' } else { character };
        let line: String = text.chars().map(shown).take(STATUS_CHARS_MAX).collect();
        self.tell(format!("STATUS={line}"));
    }

    /// Has fds kept under one name, also when their other ends are closed. The caller's own stay
    /// his. The store says nothing: that it is full is in systemd's log only.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn store(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), StoreError> {
        self.store_as(name, fds, Class::Store)
    }

    /// The same, sent no faster than a pace: for what clients can make us store as often as they like.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn store_paced(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), StoreError> {
        self.store_as(name, fds, Class::PacedStore)
    }

    /// Keeps to that pace, or not: who waits for an end is not to wait for it.
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

    /// Takes every fd of this name out of the store, if there are any. A lock of theirs is freed
    /// with the last copy of the fd, so unlock first.
    pub fn remove(&mut self, name: &str) {
        self.withdraw(name);
        // Even then: it may have been sent before, too.
        self.send(format!("FDSTOREREMOVE=1\nFDNAME={name}"), Class::Store);
    }

    /// Takes back fds that the supervisor was not sent yet, if there are any.
    pub fn withdraw(&mut self, name: &str) {
        self.forget(name);
        let message = store_message(name);
        self.channel.iter_mut().for_each(|channel| channel.withdraw(&message));
    }

    /// Tells that there is nothing of this name in the store.
    pub fn forget(&mut self, name: &str) {
        self.names.take_all(name);
    }

    /// Tells that there is nothing in the store.
    pub fn forget_all(&mut self) {
        self.names = Names::default();
    }

    /// Whether something of this name was stored.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.has(name)
    }

    /// What is in the store: names, and how many fds each has.
    #[must_use]
    pub fn stored(&self) -> Vec<(String, usize)> {
        self.names.all()
    }

    /// How many fds are in the store.
    #[must_use]
    pub fn stored_fds(&self) -> usize {
        self.names.fds()
    }

    /// How many fds of this name are in the store.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.names.count(name)
    }

    /// Whether there is room for the names of so many fds more, and a few others.
    #[must_use]
    pub fn has_room(&self, fds: usize) -> bool {
        self.names.has_room((fds + OTHERS) * NAME_BYTES_MAX)
    }

    /// Tells what is in the store already: it came from there.
    pub fn adopt_stored(&mut self, name: &str) {
        self.names.add_stored(name);
    }

    /// Has `end` closed when the supervisor has seen to everything sent before: if it is the only
    /// write end of a pipe, that tells. The caller's own stays his.
    ///
    /// # Errors
    /// `NotConnected` without a supervisor, else as `sendmsg(2)`.
    pub fn barrier(&mut self, end: BorrowedFd<'_>) -> io::Result<()> {
        let channel = self.channel.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        channel.send("BARRIER=1".to_owned(), &[end], Class::Store)
    }

    /// Sends what is kept and waits up to `patience` until the supervisor has seen to all of it;
    /// `false` when it was not enough.
    pub fn settle(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let Ok((reader, writer)) = pipe::pipe() else { return false };
        let is_sent = self.barrier(writer.as_fd()).is_ok() && self.drain(patience);
        drop(writer);
        is_sent && pipe::wait_for_end(&reader, end.saturating_duration_since(Instant::now()))
    }

    /// Frees the copies of descriptors that wait for the supervisor, and makes none for so long: others
    /// need descriptors more. What was to be stored with them is not, and counts as [lost](Self::losses).
    pub fn free_descriptors(&mut self, period: Duration) {
        self.channel.iter_mut().for_each(|channel| channel.free_descriptors(period));
    }

    /// How many messages are kept.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.channel.as_ref().map_or(0, Channel::waiting)
    }

    /// Whether the supervisor had no room for the last message.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.channel.as_ref().is_some_and(Channel::is_blocked)
    }

    /// The number of the last message.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.channel.as_ref().map_or(0, Channel::last_number)
    }

    /// The number up to which no message about the store is kept.
    #[must_use]
    pub fn stored_up_to(&self) -> u64 {
        self.channel.as_ref().map_or(u64::MAX, Channel::stored_up_to)
    }

    /// Changes whenever messages may have been lost: the supervisor had a new socket, or descriptors were
    /// [freed](Self::free_descriptors).
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.channel.as_ref().map_or(0, Channel::losses)
    }

    /// Sends what is kept; `false` when some of it still has to wait.
    pub fn flush(&mut self) -> bool {
        self.channel.as_mut().is_none_or(Channel::flush)
    }

    /// Sends what is kept and waits up to `patience` for that, before an exec or an exit; `false`
    /// when it was not enough.
    pub fn drain(&mut self, patience: Duration) -> bool {
        self.channel.as_mut().is_none_or(|channel| channel.drain(patience))
    }

    fn tell(&mut self, text: String) {
        self.send(text, Class::State);
    }

    /// What cannot be said is noted in the log and does no harm.
    fn send(&mut self, text: String, class: Class) {
        if let Some(channel) = &mut self.channel {
            drop(channel.send(text, &[], class));
        }
    }
}

/// With `FDPOLL=0`: or systemd drops a pipe as soon as its guest has died, with its last words.
fn store_message(name: &str) -> String {
    format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}")
}

#[cfg(test)]
mod tests;

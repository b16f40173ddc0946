//! Queue of messages to the supervisor, as callers see it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::Notify;
use crate::sys::pipe;
use crate::systemd::channel::{Channel, Class};

impl Notify {
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

    /// Returns whether the supervisor's socket has gone, with the messages that it had not read.
    pub fn has_gone(&mut self) -> bool {
        self.channel.as_mut().is_some_and(Channel::has_gone)
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
}

//! `sd_notify`: status reports to the supervisor, and fds that it stores for the next process of
//! this service.

mod queue;
mod store;

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::channel::{Channel, Class};
use super::names::Names;

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

    /// Enables or disables the pace. It is disabled for a bounded wait.
    pub fn set_paced(&mut self, is_paced: bool) {
        self.channel.iter_mut().for_each(|channel| channel.set_paced(is_paced));
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

#[cfg(test)]
mod tests;

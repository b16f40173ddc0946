//! Fds that systemd passes at a start: sockets that it opened for us, and the content of this
//! service's fd store.
//!
//! compat: sockets without usable names are recognized by their bound path. libvirt ignores them
//! and binds its own in their place, unknown to systemd.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use thiserror::Error;

use crate::sys::{fd, process, socket};

/// Number of the first passed fd, systemd's.
const FIRST: RawFd = 3;

/// Sockets that are accepted; more would be a mistake. Ours: four times the need.
const SOCKETS_MAX: usize = 8;

/// Fds that are looked at: as many as Linux lets a process have open (`fs.nr_open`).
const PASSED_MAX: RawFd = 1 << 20;

/// Suffix of systemd's default name for the sockets of a socket unit.
const SOCKET_SUFFIX: &str = ".socket";

/// systemd's name for a stored fd that has none.
const NAMELESS: &str = "stored";

/// The environment variables of socket activation.
#[derive(Debug, Clone, Default)]
pub struct Activation {
    /// `LISTEN_PID`.
    pub pid: Option<OsString>,
    /// `LISTEN_FDS`.
    pub fds: Option<OsString>,
    /// `LISTEN_FDNAMES`.
    pub names: Option<OsString>,
}

/// Everything that was passed, now close-on-exec.
#[derive(Debug, Default)]
pub struct Passed {
    /// Sockets of socket units.
    pub sockets: Vec<PassedSocket>,
    /// Stored fds of any kind, in systemd's order (the newest first).
    pub stored: Vec<StoredFd>,
}

/// A listening socket that was passed.
#[derive(Debug)]
pub struct PassedSocket {
    /// Its name, if every fd has one.
    pub name: Option<String>,
    /// The socket.
    pub listener: UnixListener,
}

/// A stored fd. It stays in the store: closing this one removes nothing there.
#[derive(Debug)]
pub struct StoredFd {
    /// Name in the store; several fds may share one.
    pub name: String,
    /// The fd.
    pub fd: OwnedFd,
}

/// Reason why passed sockets cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// More sockets than are accepted.
    #[error("{0} sockets were passed, at most {SOCKETS_MAX} can be used")]
    TooMany(usize),
    /// An fd is no usable listener.
    #[error("Unable to listen on socket: passed fd {number}: {error}")]
    Unusable {
        /// The fd.
        number: RawFd,
        /// The system's error.
        error: io::Error,
    },
}

impl Passed {
    /// Returns the numbers of all passed fds.
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let sockets = self.sockets.iter().map(|socket| socket.listener.as_raw_fd());
        sockets.chain(self.stored.iter().map(|stored| stored.fd.as_raw_fd()))
    }
}

impl Activation {
    /// Takes the variables out of the environment, so that no successor uses them. To be called
    /// before any thread is started.
    #[must_use]
    pub fn from_environment() -> Self {
        let taken = Self {
            pid: std::env::var_os("LISTEN_PID"),
            fds: std::env::var_os("LISTEN_FDS"),
            names: std::env::var_os("LISTEN_FDNAMES"),
        };
        for name in ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            forget_variable(name);
        }
        taken
    }

    /// Takes the fds passed to the process `own_pid`; none if the variables are missing, malformed
    /// or for another process.
    ///
    /// # Errors
    /// [`enum@Error`], about sockets only; fds taken before are closed.
    pub fn take(&self, own_pid: u32) -> Result<Passed, Error> {
        let count = self.count(own_pid);
        let mut passed = Passed::default();
        for (number, name) in (FIRST..FIRST + count).zip(self.names_of(count)) {
            passed.add(number, name)?;
        }
        match passed.sockets.len() {
            0..=SOCKETS_MAX => Ok(passed),
            count => Err(Error::TooMany(count)),
        }
    }

    /// Takes the same as they are, with systemd's name for those that have none.
    #[must_use]
    pub fn take_all(&self, own_pid: u32) -> Vec<StoredFd> {
        let count = self.count(own_pid);
        let named = (FIRST..FIRST + count).zip(self.names_of(count));
        let taken = named.filter_map(|(number, name)| {
            let name = name.unwrap_or_else(|| NAMELESS.to_owned());
            Some(StoredFd { name, fd: adopt(number).ok()? })
        });
        taken.collect()
    }

    fn count(&self, own_pid: u32) -> RawFd {
        let number = |value: &Option<OsString>| value.as_ref()?.to_str()?.parse::<u32>().ok();
        if number(&self.pid) != Some(own_pid) {
            return 0;
        }
        let count = number(&self.fds).and_then(|count| RawFd::try_from(count).ok());
        count.unwrap_or(0).min(PASSED_MAX)
    }

    /// Returns a name for each fd, or none at all if the counts differ.
    fn names_of(&self, count: RawFd) -> Vec<Option<String>> {
        let count = usize::try_from(count).unwrap_or(0);
        let names: Vec<_> = match self.names.as_ref().and_then(|names| names.to_str()) {
            Some(names) => names.split(':').map(|name| Some(name.to_owned())).collect(),
            None => Vec::new(),
        };
        if names.len() == count { names } else { vec![None; count] }
    }
}

#[expect(unsafe_code, reason = "the environment is changed")]
fn forget_variable(name: &str) {
    // SAFETY: the process has just begun, and no other thread was started.
    unsafe { process::remove_env(name) }
}

#[expect(unsafe_code, reason = "a number has to get an owner somewhere")]
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: nothing owns a passed fd until then, and each number is taken once.
    unsafe { fd::adopt(number) }
}

impl Passed {
    fn add(&mut self, number: RawFd, name: Option<String>) -> Result<(), Error> {
        let unusable = |error| Error::Unusable { number, error };
        let named_socket = name.as_ref().is_some_and(|name| name.ends_with(SOCKET_SUFFIX));
        let fd = match adopt(number) {
            Ok(fd) => fd,
            Err(error) if named_socket => return Err(unusable(error)),
            // Not open, so nothing is lost.
            Err(_) => return Ok(()),
        };
        if named_socket || socket::is_listening(&fd) {
            let listener = socket::listener_from(fd).map_err(unusable)?;
            self.sockets.push(PassedSocket { name, listener });
        } else {
            let name = name.unwrap_or_else(|| NAMELESS.to_owned());
            self.stored.push(StoredFd { name, fd });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

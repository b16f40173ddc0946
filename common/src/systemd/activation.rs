//! Sockets that systemd opened for us.
//!
//! compat: sockets without usable names are told apart by the path they are bound to. libvirt
//! ignores them then and puts sockets of its own in their place, behind systemd's back.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;

use thiserror::Error;

use crate::sys::{fd, process, socket};

/// Number of the first fd that is passed, systemd's.
const FIRST: RawFd = 3;

/// Fds that are accepted; more would be a mistake. Ours: four times what the two sockets need.
const PASSED_MAX: RawFd = 8;

/// The variables, as they were.
#[derive(Debug, Clone, Default)]
pub struct Activation {
    /// `LISTEN_PID`.
    pub pid: Option<OsString>,
    /// `LISTEN_FDS`.
    pub fds: Option<OsString>,
    /// `LISTEN_FDNAMES`.
    pub names: Option<OsString>,
}

/// A listening socket that was passed.
#[derive(Debug)]
pub struct PassedSocket {
    /// Its name, where every fd has one.
    pub name: Option<String>,
    /// The socket.
    pub listener: UnixListener,
}

/// Why passed sockets cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// More than ever makes sense.
    #[error("{0} sockets were passed, at most {PASSED_MAX} can be used")]
    TooMany(RawFd),
    /// One cannot be listened on.
    #[error("Unable to listen on socket: passed fd {number}: {error}")]
    Unusable {
        /// The fd.
        number: RawFd,
        /// What the kernel said.
        error: io::Error,
    },
}

impl PassedSocket {
    /// The number it was passed under.
    #[must_use]
    pub fn number(&self) -> RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.listener)
    }
}

impl Activation {
    /// Takes the variables out of the environment, so that no successor takes them for its own.
    /// Call it before any thread is started.
    #[must_use]
    pub fn from_environment() -> Self {
        let taken = Self {
            pid: std::env::var_os("LISTEN_PID"),
            fds: std::env::var_os("LISTEN_FDS"),
            names: std::env::var_os("LISTEN_FDNAMES"),
        };
        for name in ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            process::remove_env(name);
        }
        taken
    }

    /// The sockets that were passed to the process `own_pid`; none when the variables are missing,
    /// malformed or meant for another.
    ///
    /// # Errors
    /// [`enum@Error`]; the fds that were taken over are closed.
    pub fn sockets(&self, own_pid: u32) -> Result<Vec<PassedSocket>, Error> {
        let count = self.count(own_pid);
        if count > PASSED_MAX {
            return Err(Error::TooMany(count));
        }
        let names = self.names_of(count);
        (FIRST..FIRST + count)
            .zip(names)
            .map(|(number, name)| {
                let listener = fd::adopt(number)
                    .and_then(socket::listener_from)
                    .map_err(|error| Error::Unusable { number, error })?;
                Ok(PassedSocket { name, listener })
            })
            .collect()
    }

    fn count(&self, own_pid: u32) -> RawFd {
        let number = |value: &Option<OsString>| value.as_ref()?.to_str()?.parse::<u32>().ok();
        if number(&self.pid) != Some(own_pid) {
            return 0;
        }
        number(&self.fds).and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0)
    }

    /// One name each, or none at all when their number is not that of the fds.
    fn names_of(&self, count: RawFd) -> Vec<Option<String>> {
        let count = usize::try_from(count).unwrap_or(0);
        let names: Vec<_> = match self.names.as_ref().and_then(|names| names.to_str()) {
            Some(names) => names.split(':').map(|name| Some(name.to_owned())).collect(),
            None => Vec::new(),
        };
        if names.len() == count { names } else { vec![None; count] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(pid: &str, fds: &str, names: Option<&str>) -> Activation {
        Activation { pid: Some(pid.into()), fds: Some(fds.into()), names: names.map(Into::into) }
    }

    #[test]
    fn what_is_meant_for_another_process_is_not_taken() {
        assert_eq!(activation("7", "2", None).count(8), 0);
        assert_eq!(activation("x", "2", None).count(8), 0);
        assert_eq!(activation("8", "-2", None).count(8), 0);
        assert_eq!(Activation::default().count(8), 0);
        assert_eq!(activation("8", "2", None).count(8), 2);
    }

    #[test]
    fn names_count_only_when_there_is_one_for_each() {
        let two = activation("8", "2", Some("a.socket:b.socket"));
        assert_eq!(two.names_of(2), [Some("a.socket".to_owned()), Some("b.socket".to_owned())]);
        assert_eq!(two.names_of(3), [None, None, None]);
        assert_eq!(activation("8", "1", None).names_of(1), [None]);
    }

    #[test]
    fn too_many_are_refused() {
        assert!(matches!(activation("8", "1000", None).sockets(8), Err(Error::TooMany(1000))));
    }
}

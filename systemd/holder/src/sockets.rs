//! Sockets of a set: for messages, for claims, and those that its daemon listens at.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use common::sys::{fd, process, socket};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use thiserror::Error;

use crate::options::ListenerOptions;

/// Names of the sockets in a set's directory.
const MESSAGES: &str = "messages";
const CLAIMS: &str = "claims";

/// Name of the file in the holder's own directory that it keeps locked.
const LOCK: &str = "lock";

/// Permission bits of that file: who could open it could keep all holders out.
const LOCK_MODE: u32 = 0o600;

/// Permission bits of these sockets. The directories are open to all: whoever is let in by what is
/// around them is still asked who they are.
const SOCKET_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o755;

/// Reason why there is no socket.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("{} is in use by another holder", .0.display())]
    Held(PathBuf),
    #[error("{} is no socket", .0.display())]
    NoSocket(PathBuf),
    #[error("unable to make {}: {error}", path.display())]
    Make { path: PathBuf, error: io::Error },
    #[error("unable to give {} to user {uid}: {error}", path.display())]
    Give { path: PathBuf, uid: u32, error: io::Error },
}

/// A holder's directory, which no other holder has until this is dropped.
#[derive(Debug)]
pub(crate) struct Directory(
    #[expect(dead_code, reason = "it only has to stay locked")] Flock<File>,
);

/// The two sockets of a set.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) messages: UnixDatagram,
    pub(crate) claims: UnixListener,
}

/// Sockets of a set that an earlier process has left.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) messages: Option<OwnedFd>,
    pub(crate) claims: Option<OwnedFd>,
    pub(crate) listeners: Vec<(String, OwnedFd)>,
}

/// A socket that an earlier process has left for nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    Messages,
    Claims,
    Listener(String),
}

/// A listening socket of a daemon.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) options: ListenerOptions,
    /// `None` while another process listens at its path.
    pub(crate) socket: Option<OwnedFd>,
}

impl Directory {
    /// Takes the directory, which is made. Sockets alone do not tell two holders that start at once.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        make_directory(path)?;
        let lock = path.join(LOCK);
        let open = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(LOCK_MODE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&lock);
        let file = open.map_err(|error| Error::Make { path: lock.clone(), error })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => Ok(Self(locked)),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Held(path.to_owned())),
            Err((_, error)) => Err(Error::Make { path: lock, error: error.into() }),
        }
    }
}

impl Found {
    /// Drops those that no client can reach: their paths have gone, or are no longer asked for.
    /// Returns what was dropped.
    pub(crate) fn drop_unreachable(
        &mut self,
        directory: &Path,
        wanted: &[ListenerOptions],
    ) -> Vec<Dropped> {
        let [claims, messages] = Sockets::paths(directory);
        let mut dropped = Vec::new();
        if self.messages.take_if(|_| !is_socket(&messages)).is_some() {
            dropped.push(Dropped::Messages);
        }
        if self.claims.take_if(|_| !is_socket(&claims)).is_some() {
            dropped.push(Dropped::Claims);
        }
        let is_reachable = |(name, fd): &mut (String, OwnedFd)| {
            let options = wanted.iter().find(|options| options.name == *name);
            options.is_some_and(|ListenerOptions { path, .. }| {
                is_socket(path) && socket::is_listener_at(fd.as_fd(), path)
            })
        };
        let unreachable = self.listeners.extract_if(.., |listener| !is_reachable(listener));
        dropped.extend(unreachable.map(|(name, _)| Dropped::Listener(name)));
        dropped
    }
}

impl Sockets {
    /// Opens both below `directory`, which is made, for a user. Those that were `found` go on.
    pub(crate) fn open(directory: &Path, uid: u32, found: &mut Found) -> Result<Self, Error> {
        make_directory(directory)?;
        let [claims, messages] = Self::paths(directory);
        let messages = match found.messages.take() {
            Some(found) => found.into(),
            None => make(&messages, uid, socket::is_bound_at, |path| {
                socket::bind_messages(Some((path, SOCKET_MODE)))
            })?,
        };
        let claims = match found.claims.take() {
            Some(found) => found.into(),
            None => make(&claims, uid, is_claimed_at, |path| {
                socket::listen_for_packets(Some((path, SOCKET_MODE)))
            })?,
        };
        Ok(Self { messages, claims })
    }

    /// Opens both at abstract addresses.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub(crate) fn abstract_ones() -> io::Result<Self> {
        let (messages, claims) = (socket::bind_messages(None)?, socket::listen_for_packets(None)?);
        Ok(Self { messages, claims })
    }

    /// Returns the paths of both in a set's directory.
    pub(crate) fn paths(directory: &Path) -> [PathBuf; 2] {
        [CLAIMS, MESSAGES].map(|name| directory.join(name))
    }
}

impl Listener {
    /// A socket that is not open yet, or was `found`.
    pub(crate) fn new(options: ListenerOptions, found: &mut Found) -> Self {
        let index = found.listeners.iter().position(|(name, _)| *name == options.name);
        let socket = index.map(|index| found.listeners.swap_remove(index).1);
        Self { options, socket }
    }

    /// Opens it, unless it is open, or another process listens there. Returns the socket if it is
    /// new.
    pub(crate) fn open(&mut self) -> Result<Option<BorrowedFd<'_>>, Error> {
        let ListenerOptions { path, mode, uid, gid, .. } = &self.options;
        if self.socket.is_some() || socket::is_listened_at(path) {
            return Ok(None);
        }
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        remove(path)?;
        let failure = |error| Error::Make { path: path.clone(), error };
        let listener = socket::listen_at(path, *mode).map_err(failure)?;
        // As systemd passes them, unless told otherwise.
        fd::set_blocking(&listener).map_err(failure)?;
        if uid.is_some() || gid.is_some() {
            chown(path, *uid, *gid).map_err(failure)?;
        }
        let socket: &OwnedFd = self.socket.insert(listener.into());
        Ok(Some(socket.as_fd()))
    }
}

fn make<T>(
    path: &Path,
    uid: u32,
    is_in_use: impl FnOnce(&Path) -> bool,
    make: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, Error> {
    if is_in_use(path) {
        return Err(Error::Held(path.to_owned()));
    }
    remove(path)?;
    let made = make(path).map_err(|error| Error::Make { path: path.to_owned(), error })?;
    if uid != process::effective_uid() {
        chown(path, Some(uid), None).map_err(|error| Error::Give {
            path: path.to_owned(),
            uid,
            error,
        })?;
    }
    Ok(made)
}

/// Removes a socket that is in nobody's use.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).map_err(|error| Error::Make { path: path.to_owned(), error })
        }
        Ok(_) => Err(Error::NoSocket(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE);
    process::with_umask(!DIRECTORY_MODE & 0o777, || builder.create(path))
        .map_err(|error| Error::Make { path: path.to_owned(), error })
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn is_claimed_at(path: &Path) -> bool {
    let address = nix::sys::socket::UnixAddr::new(path);
    let connected = address.map(|address| socket::connect_for_packets(&address));
    // A full backlog is a holder's too.
    connected.is_ok_and(|result| match result {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn listener(path: &Path) -> Listener {
        let options = ListenerOptions {
            name: "a.socket".into(),
            path: path.to_owned(),
            mode: 0o600,
            uid: None,
            gid: None,
        };
        Listener::new(options, &mut Found::default())
    }

    #[test]
    fn two_holders_cannot_start_in_one_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = Directory::take(directory.path()).unwrap();
        assert!(matches!(Directory::take(directory.path()), Err(Error::Held(_))));
        // Others may not even open what is locked.
        let mode = fs::metadata(directory.path().join(LOCK)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, LOCK_MODE);
        drop(first);
        assert!(Directory::take(directory.path()).is_ok());
    }

    #[test]
    fn two_holders_cannot_have_one_directory() {
        let directory = tempfile::tempdir().unwrap();
        let uid = process::effective_uid();
        let open = || Sockets::open(directory.path(), uid, &mut Found::default());
        let first = open().unwrap();
        assert!(matches!(open(), Err(Error::Held(_))));
        drop(first);
        let first = open().unwrap();
        let mut found = Found {
            messages: Some(first.messages.into()),
            claims: Some(first.claims.into()),
            ..Found::default()
        };
        assert!(Sockets::open(directory.path(), uid, &mut found).is_ok());
    }

    #[test]
    fn a_path_at_which_somebody_listens_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/sock");
        let mut first = listener(&path);
        assert!(first.open().unwrap().is_some());
        assert!(first.open().unwrap().is_none());
        let mut second = listener(&path);
        assert!(second.open().unwrap().is_none() && second.socket.is_none());
        drop(first);
        assert!(second.open().unwrap().is_some());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(listener(&path).open(), Err(Error::NoSocket(_))));
    }
}

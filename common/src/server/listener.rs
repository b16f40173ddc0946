//! A socket that clients connect to.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::rpc::error::io_text;
use crate::sys::socket;

/// Permission bits of a socket until its owner is set.
const OWN_MODE: u32 = 0o600;

/// A listening socket. One that we made is removed when it is dropped, if it is still ours.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// Removed when dropped.
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Takes a socket that somebody else made and will remove.
    #[must_use]
    pub fn passed(socket: UnixListener) -> Self {
        Self { socket, file: None }
    }

    /// Takes a socket that a predecessor of this process made, with its file.
    #[must_use]
    pub fn inherited(socket: UnixListener) -> Self {
        let path = socket::bound_path(&socket);
        // Whoever has removed the file may have made another.
        let file = path.and_then(|path| SocketFile::at(&path).ok());
        Self { socket, file }
    }

    /// Whether the socket's file is ours to remove.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.file.is_some()
    }

    /// Makes a socket at `path` with the permission bits `mode`, owned by `group` if one is given.
    /// What a dead daemon left there is removed; a living one is not disturbed.
    ///
    /// # Errors
    /// `AddrInUse` when somebody answers at the path, `AlreadyExists` when what is there is no
    /// socket, else as `bind(2)` and `listen(2)`.
    pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<Self> {
        remove_stale(path)?;
        // Nobody but us gets in before the owner is right.
        let socket = socket::listen_at(path, if group.is_some() { OWN_MODE } else { mode })?;
        let file = SocketFile::at(path)?;
        if let Some(group) = group {
            file.open_to(group, mode)?;
        }
        Ok(Self { socket, file: Some(file) })
    }

    /// The next connection that waits.
    ///
    /// # Errors
    /// As `accept(2)`; `WouldBlock` when none waits.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        socket::accept(&self.socket)
    }

    /// Where it can be reached, for the log.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        socket::bound_path(&self.socket)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.file_type().is_socket() {
            return Err(Errno::ESTALE.into());
        }
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Gives it to a group with these permission bits. What somebody puts in its place meanwhile stays
    /// as it is.
    fn open_to(&self, group: u32, mode: u32) -> io::Result<()> {
        let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
        let file = File::options().read(true).custom_flags(flags).open(&self.path)?;
        let found = file.metadata()?;
        if (found.dev(), found.ino()) != (self.device, self.inode) {
            return Err(Errno::ESTALE.into());
        }
        // No call that changes the permissions takes such an fd; this name leads to the very file.
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        chown(&itself, None, Some(group)).map_err(naming("chown"))?;
        fs::set_permissions(itself, Permissions::from_mode(mode)).map_err(naming("chmod"))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if still_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(
                target: "rpc.netsocket",
                "Unable to remove socket {}: {error}", self.path.display()
            );
        }
    }
}

/// Says which system call has failed, where that is not the one that is to be expected.
fn naming(call: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{call}: {}", io_text(&error)))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket is there; move it away",
        )),
        Ok(_) if socket::is_listened_at(path) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another daemon answers there; stop it first",
        )),
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests;

//! Listening sockets.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::sys::errno::io_text;
use crate::sys::socket;

/// Permission bits of a socket until its group is set.
const OWN_MODE: u32 = 0o600;

/// A listening socket. The file of a socket of our own is removed on drop, if it is still the same
/// file.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// The socket's file, removed on drop.
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Wraps a socket that was passed in, whose file is not ours to remove.
    #[must_use]
    pub fn passed(socket: UnixListener) -> Self {
        Self { socket, file: None }
    }

    /// Wraps a socket that a predecessor of this process made, with its file.
    #[must_use]
    pub fn inherited(socket: UnixListener) -> Self {
        let path = socket::bound_path(&socket);
        // The file may have been removed and made anew by another process.
        let file = path.and_then(|path| SocketFile::at(&path).ok());
        Self { socket, file }
    }

    /// Returns whether the socket's file is ours to remove.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.file.is_some()
    }

    /// Binds a socket at `path` with the permission bits `mode` and, if given, the owner `group`. A
    /// stale socket of a dead daemon is replaced; a live one is left alone.
    ///
    /// # Errors
    /// `AddrInUse` when a process answers at the path, `AlreadyExists` when the file there is no
    /// socket, else as `bind(2)` and `listen(2)`.
    pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<Self> {
        remove_stale(path)?;
        // Others cannot connect before the group is set.
        let socket = socket::listen_at(path, if group.is_some() { OWN_MODE } else { mode })?;
        let file = SocketFile::at(path)?;
        if let Some(group) = group {
            file.open_to(group, mode)?;
        }
        Ok(Self { socket, file: Some(file) })
    }

    /// Accepts the next pending connection.
    ///
    /// # Errors
    /// As `accept(2)`; `WouldBlock` when none is pending.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        socket::accept(&self.socket)
    }

    /// Returns the socket's path, for the log.
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

    /// Sets group and permission bits of the socket's file. A file that replaced it meanwhile stays
    /// as it is.
    fn open_to(&self, group: u32, mode: u32) -> io::Result<()> {
        let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
        let file = File::options().read(true).custom_flags(flags).open(&self.path)?;
        let found = file.metadata()?;
        if (found.dev(), found.ino()) != (self.device, self.inode) {
            return Err(Errno::ESTALE.into());
        }
        // No call that changes permissions takes an `O_PATH` fd; this name leads to the same file.
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

/// Names the system call that failed, where it is not obvious.
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

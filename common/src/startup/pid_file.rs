//! The pid file, which is also the lock that keeps a second daemon out. It is the same POSIX lock
//! on the same byte as libvirt's, so that their daemons and ours exclude each other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use thiserror::Error;

use nix::fcntl::OFlag;

use crate::cli::PID_FILE_MODE;
use crate::sys::lock::{Kind, Mode, try_lock};
use crate::sys::{fd, process};

/// Device and inode number of our pid file. Global, as the lock belongs to the whole process.
static OURS: OnceLock<(u64, u64)> = OnceLock::new();

/// Returns device and inode number of this process's pid file. No fd of it may be closed, under
/// whatever name it was opened: that would free the lock, and a second daemon could take our
/// sockets.
#[must_use]
pub fn own_pid_file() -> Option<(u64, u64)> {
    OURS.get().copied()
}

/// Returns whether a file is [this process's pid file](own_pid_file).
#[must_use]
pub fn is_pid_file(device: u64, inode: u64) -> bool {
    own_pid_file() == Some((device, inode))
}

/// Attempts to lock a file that is replaced meanwhile.
const ATTEMPTS_MAX: usize = 100;

/// The locked pid file. Removed on drop.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    // Stays open while the daemon lives: closing it, or any other fd of the file, frees the lock.
    file: Arc<File>,
}

/// Reason why the pid file was not acquired. The texts are libvirt's.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// It cannot be opened.
    #[error("Failed to open pid file '{}': {}", path.display(), crate::sys::errno::io_text(error))]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another daemon holds it.
    #[error(
        "Failed to acquire pid file '{}': Resource temporarily unavailable (another daemon runs)",
        path.display()
    )]
    Held {
        /// Path of the file.
        path: PathBuf,
    },
    /// It cannot be locked or written.
    #[error("Failed to acquire pid file '{}': {}", path.display(), crate::sys::errno::io_text(error))]
    Acquire {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl PidFile {
    /// Locks the pid file at `path` and writes our pid to it, without a newline as libvirt does.
    ///
    /// # Errors
    /// [`enum@Error`]; a file that another daemon holds is not changed.
    pub(super) fn acquire(path: &Path) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(file) = lock(path)? {
                let pid_file = Self { path: path.to_owned(), file: Arc::new(file) };
                pid_file.write().map_err(|error| Error::Acquire { path: path.into(), error })?;
                return Ok(pid_file);
            }
        }
        Err(Error::Held { path: path.into() })
    }

    /// Adopts the pid file of a predecessor, if it is still at `path`. The predecessor may have
    /// lost the lock.
    pub(super) fn inherited(path: &Path, file: File) -> Option<Self> {
        if !is_at(&file, path).unwrap_or(false) {
            return None;
        }
        if !matches!(try_lock(&file, Kind::Posix, Mode::Exclusive), Ok(true)) {
            tracing::error!(
                target: "util.pidfile",
                "The lock on pid file {} is lost; check for a second daemon", path.display()
            );
        }
        Some(Self { path: path.to_owned(), file: Arc::new(file) })
    }

    /// Registers it as [this process's](own_pid_file).
    pub(super) fn guard(&self) {
        if let Ok(identity) = fd::device_and_inode(&*self.file) {
            OURS.get_or_init(|| identity);
        }
    }

    /// Returns the locked file, for a successor.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    fn write(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        (&*self.file).write_all(std::process::id().to_string().as_bytes())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path).unwrap_or(false)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(
                target: "util.pidfile",
                "Unable to remove pid file {}: {error}", self.path.display()
            );
        }
    }
}

/// Opens and locks the file; `None` if it was replaced in between, so that the lock is on an
/// unlinked file.
fn lock(path: &Path) -> Result<Option<File>, Error> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(PID_FILE_MODE);
    if !is_link_of_root_or_us(path) {
        options.custom_flags(OFlag::O_NOFOLLOW.bits());
    }
    let file = options.open(path).map_err(|error| Error::Open { path: path.into(), error })?;
    let locked = try_lock(&file, Kind::Posix, Mode::Exclusive)
        .map_err(|error| Error::Acquire { path: path.into(), error })?;
    if !locked {
        return Err(Error::Held { path: path.into() });
    }
    let ours = is_at(&file, path).map_err(|error| Error::Acquire { path: path.into(), error })?;
    Ok(ours.then_some(file))
}

/// Returns whether a symbolic link may be followed. Any other owner's could make us overwrite the
/// file it leads to.
fn is_link_of_root_or_us(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|found| {
        found.is_symlink() && [0, process::effective_uid()].contains(&found.uid())
    })
}

/// Returns whether `path` leads to this file.
pub(super) fn is_at(file: impl AsFd, path: &Path) -> io::Result<bool> {
    let ours = fd::device_and_inode(file)?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == ours),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;

//! Byte-range locks. Never `flock(2)`, which does not exclude `fcntl(2)` locks.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::calls::is_unknown;

/// Owner of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process: released when it ends or closes *any* fd of the file. libvirt's kind.
    Posix,
    /// The open file description: released when its last duplicate, in any process, is closed.
    Ofd,
}

/// Mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Shared with other shared locks.
    Shared,
    /// Exclusive.
    Exclusive,
}

/// Locks byte 0 of the file, length 1: libvirt's range, clear of QEMU's own locks at bytes 100 and
/// up. Never waits. Returns whether it was granted.
///
/// # Errors
/// As `fcntl(2)`, except for a conflicting lock.
pub fn try_lock(fd: impl AsFd, kind: Kind, mode: Mode) -> io::Result<bool> {
    let lock_type = match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
    };
    match set(fd, kind, lock_type) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Part of an expected lock that the process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// All of it.
    Whole(Kind),
    /// It is shared, and should be exclusive.
    Shared(Kind),
    /// None of it.
    Nothing,
}

impl Hold {
    /// Returns whether nothing is missing.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Returns whether there is a lock that ends with this process.
    #[must_use]
    pub fn is_posix(self) -> bool {
        matches!(self, Self::Whole(Kind::Posix) | Self::Shared(Kind::Posix))
    }
}

/// Determines how much of an expected lock of `fd` there is, of either kind, and takes what is
/// missing if possible; releases nothing for it. The kernel does not report a process's own locks,
/// but which kind can be taken tells: exclusive locks of both kinds conflict, even on one fd.
///
/// Besides an OFD lock there may be a shared POSIX lock of this process, which then is to be
/// [released](unlock) unless another fd of the file needs it.
///
/// # Errors
/// As `fcntl(2)`; nothing is released then either.
pub fn confirm(fd: impl AsFd, mode: Mode) -> io::Result<Hold> {
    let fd = fd.as_fd();
    // A file system without OFD locks may have a POSIX lock.
    let has_ofd = try_lock(fd, Kind::Ofd, mode);
    if matches!(has_ofd, Ok(true)) {
        return Ok(Hold::Whole(Kind::Ofd));
    }
    if matches!(&has_ofd, Err(error) if is_unknown(error)) {
        return confirm_posix(fd, mode);
    }
    if try_lock(fd, Kind::Posix, mode)? {
        // The conflict may have been with an exclusive lock of this process, which is shared now.
        let is_ofd = mode == Mode::Shared && matches!(try_lock(fd, Kind::Ofd, mode), Ok(true));
        return Ok(Hold::Whole(if is_ofd { Kind::Ofd } else { Kind::Posix }));
    }
    has_ofd?;
    let is_shared = mode == Mode::Exclusive && try_lock(fd, Kind::Ofd, Mode::Shared)?;
    Ok(if is_shared { Hold::Shared(Kind::Ofd) } else { Hold::Nothing })
}

/// Determines how much of a lock there is that can only be a POSIX lock, as it serves several fds.
///
/// # Errors
/// As `fcntl(2)`.
pub fn confirm_posix(fd: impl AsFd, mode: Mode) -> io::Result<Hold> {
    let fd = fd.as_fd();
    if try_lock(fd, Kind::Posix, mode)? {
        return Ok(Hold::Whole(Kind::Posix));
    }
    let is_shared = mode == Mode::Exclusive && try_lock(fd, Kind::Posix, Mode::Shared)?;
    Ok(if is_shared { Hold::Shared(Kind::Posix) } else { Hold::Nothing })
}

/// Converts a whole POSIX lock of ours to an OFD lock of `fd`, without a moment in which another
/// process could get an exclusive one. A reader can take a shared one in between, and then ours is
/// shared too.
///
/// Without OFD locks the POSIX lock is taken again, which a reader can prevent as well. That is no
/// error: the result tells what is held.
///
/// # Errors
/// As `fcntl(2)`, with the lock still whole.
pub fn make_ofd(fd: impl AsFd, mode: Mode) -> io::Result<Hold> {
    let fd = fd.as_fd();
    // This conflicts with the exclusive lock; an unknown command is reported before that.
    if matches!(try_lock(fd, Kind::Ofd, Mode::Shared), Err(error) if is_unknown(&error)) {
        return Ok(Hold::Whole(Kind::Posix));
    }
    if mode == Mode::Exclusive && !try_lock(fd, Kind::Posix, Mode::Shared)? {
        return Ok(Hold::Nothing);
    }
    if !matches!(try_lock(fd, Kind::Ofd, Mode::Shared), Ok(true)) {
        let is_whole = matches!(try_lock(fd, Kind::Posix, mode), Ok(true));
        return Ok(if is_whole { Hold::Whole(Kind::Posix) } else { Hold::Shared(Kind::Posix) });
    }
    unlock(fd, Kind::Posix).ok();
    let is_whole = matches!(try_lock(fd, Kind::Ofd, mode), Ok(true));
    Ok(if is_whole { Hold::Whole(Kind::Ofd) } else { Hold::Shared(Kind::Ofd) })
}

/// Returns whether an exclusive lock of the range could be had. Takes none.
///
/// # Errors
/// As `fcntl(2)`.
pub fn is_free(fd: impl AsFd) -> io::Result<bool> {
    let mut range = range(libc::F_WRLCK)?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut range))?;
    Ok(i32::from(range.l_type) == libc::F_UNLCK)
}

/// Releases the lock of [`try_lock`], whoever else has a duplicate of the fd.
///
/// # Errors
/// As `fcntl(2)`.
pub fn unlock(fd: impl AsFd, kind: Kind) -> io::Result<()> {
    Ok(set(fd, kind, libc::F_UNLCK)?)
}

/// Returns byte 0, to be locked or unlocked.
fn range(lock_type: libc::c_int) -> Result<libc::flock, Errno> {
    Ok(libc::flock {
        l_type: libc::c_short::try_from(lock_type).map_err(|_| Errno::EINVAL)?,
        l_whence: libc::c_short::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    })
}

fn set(fd: impl AsFd, kind: Kind, lock_type: libc::c_int) -> Result<(), Errno> {
    let range = range(lock_type)?;
    fcntl(
        fd,
        match kind {
            Kind::Posix => FcntlArg::F_SETLK(&range),
            Kind::Ofd => FcntlArg::F_OFD_SETLK(&range),
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;

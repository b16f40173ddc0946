//! Byte-range locks. Never `flock(2)`, which does not exclude `fcntl(2)` locks.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::calls::is_unknown;

/// Who a lock belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process: gone when it ends or closes *any* fd of the file. What libvirt uses.
    Posix,
    /// The open file description: gone when its last duplicate, in any process, is closed.
    Ofd,
}

/// Whether others may hold the same lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Shared with other shared locks.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes a lock on byte 0 of the file, length 1: libvirt's range, clear of QEMU's own locks at
/// bytes 100 and up. Never waits. Gives whether it was had.
///
/// # Errors
/// As `fcntl(2)`, but for a lock held by somebody else.
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

/// What a process has of a lock that it should have.
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
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Whether there is a lock that goes with this process.
    #[must_use]
    pub fn is_posix(self) -> bool {
        matches!(self, Self::Whole(Kind::Posix) | Self::Shared(Kind::Posix))
    }
}

/// Finds out what there is of a lock that `fd` should have in one of the two kinds, and takes what is
/// missing, as far as it can be had; nothing that is there is given up for it. The kernel does not
/// tell a process its own locks, and tells by which kind can be had: exclusive ones of both kinds
/// stand against each other, even on one fd.
///
/// What it gives as an OFD lock may have a shared POSIX lock of this process beside it, which then is
/// to be [unlocked](unlock) unless another fd of the file needs it.
///
/// # Errors
/// As `fcntl(2)`; nothing is given up then either.
pub fn confirm(fd: impl AsFd, mode: Mode) -> io::Result<Hold> {
    let fd = fd.as_fd();
    // A file system that cannot have OFD locks may have a POSIX one.
    let has_ofd = try_lock(fd, Kind::Ofd, mode);
    if matches!(has_ofd, Ok(true)) {
        return Ok(Hold::Whole(Kind::Ofd));
    }
    if matches!(&has_ofd, Err(error) if is_unknown(error)) {
        return confirm_posix(fd, mode);
    }
    if try_lock(fd, Kind::Posix, mode)? {
        // What stood in the way may have been an exclusive one of this process, which is shared now.
        let is_ofd = mode == Mode::Shared && matches!(try_lock(fd, Kind::Ofd, mode), Ok(true));
        return Ok(Hold::Whole(if is_ofd { Kind::Ofd } else { Kind::Posix }));
    }
    has_ofd?;
    let is_shared = mode == Mode::Exclusive && try_lock(fd, Kind::Ofd, Mode::Shared)?;
    Ok(if is_shared { Hold::Shared(Kind::Ofd) } else { Hold::Nothing })
}

/// What of a lock there is that can only be a POSIX lock, as it is one for several fds.
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

/// Turns a whole POSIX lock of ours into an OFD lock of `fd`, without a moment in which somebody who
/// wants it alone could get it. A reader can slip in between, and then it is shared with him.
///
/// Where there can be no OFD lock the POSIX lock is taken again, which a reader can have made
/// impossible as well; that is no error, as what is there has to be known.
///
/// # Errors
/// As `fcntl(2)`, of a lock that is whole still.
pub fn make_ofd(fd: impl AsFd, mode: Mode) -> io::Result<Hold> {
    let fd = fd.as_fd();
    // As long as the lock is exclusive this one cannot be had, which is said if there can be any.
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
    drop(unlock(fd, Kind::Posix));
    let is_whole = matches!(try_lock(fd, Kind::Ofd, mode), Ok(true));
    Ok(if is_whole { Hold::Whole(Kind::Ofd) } else { Hold::Shared(Kind::Ofd) })
}

/// Gives up the lock of [`try_lock`], whoever else holds a duplicate of the fd.
///
/// # Errors
/// As `fcntl(2)`.
pub fn unlock(fd: impl AsFd, kind: Kind) -> io::Result<()> {
    Ok(set(fd, kind, libc::F_UNLCK)?)
}

fn set(fd: impl AsFd, kind: Kind, lock_type: libc::c_int) -> Result<(), Errno> {
    let range = libc::flock {
        l_type: libc::c_short::try_from(lock_type).map_err(|_| Errno::EINVAL)?,
        l_whence: libc::c_short::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
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

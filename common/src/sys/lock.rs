//! Byte-range locks. Never `flock(2)`, which does not exclude `fcntl(2)` locks.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

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

/// Turns a POSIX lock of ours into an OFD lock of `fd`, without a moment in which somebody who wants it
/// alone could get it. A reader can slip in between, and then it is shared with him. Gives whether
/// it is what it was.
///
/// # Errors
/// As `fcntl(2)`; whatever lock there was is there in one of the two kinds.
pub fn make_ofd(fd: impl AsFd, mode: Mode) -> io::Result<bool> {
    let fd = fd.as_fd();
    if mode == Mode::Exclusive && try_lock(fd, Kind::Ofd, mode)? {
        // It was one already: no POSIX lock stood against it.
        return Ok(true);
    }
    try_lock(fd, Kind::Posix, Mode::Shared)?;
    if !try_lock(fd, Kind::Ofd, Mode::Shared)? {
        return Ok(false);
    }
    unlock(fd, Kind::Posix)?;
    try_lock(fd, Kind::Ofd, mode)
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
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_posix_lock_becomes_an_ofd_lock() {
        for mode in [Mode::Shared, Mode::Exclusive] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let open = || File::options().read(true).write(true).open(file.path()).unwrap();
            let (one, two) = (open(), open());
            assert!(try_lock(&one, Kind::Posix, mode).unwrap());
            assert!(make_ofd(&one, mode).unwrap() && make_ofd(&one, mode).unwrap());
            // It does not go with the fd of somebody else in this process.
            drop(two);
            assert!(!try_lock(open(), Kind::Ofd, Mode::Exclusive).unwrap());
            assert_eq!(try_lock(open(), Kind::Ofd, Mode::Shared).unwrap(), mode == Mode::Shared);
        }
    }

    #[test]
    fn two_descriptions_of_one_file_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (one, two) = (open(), open());
        assert!(try_lock(&one, Kind::Ofd, Mode::Exclusive).unwrap());
        assert!(!try_lock(&two, Kind::Ofd, Mode::Shared).unwrap());
        assert!(!try_lock(&two, Kind::Posix, Mode::Exclusive).unwrap());
        unlock(&one, Kind::Ofd).unwrap();
        assert!(try_lock(&two, Kind::Ofd, Mode::Shared).unwrap());
        assert!(try_lock(&one, Kind::Ofd, Mode::Shared).unwrap());
        assert!(!try_lock(&one, Kind::Ofd, Mode::Exclusive).unwrap());
    }
}

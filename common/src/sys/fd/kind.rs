//! Kind and identity of open files, without asking a file server.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::fstat;

use crate::sys::calls;
use crate::sys::shortage::wait_out;

/// Stands for block devices; no file system has this device number.
pub const BLOCK_DEVICES: u64 = 0;

/// Returns device and inode number of an open file, without asking a file server, which could hang.
///
/// # Errors
/// As `statx(2)`.
pub fn device_and_inode(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let found = known(fd, libc::STATX_INO)?;
    Ok((found.device, found.inode))
}

/// Returns the identity of an open file: device and inode number. All nodes of a block device are
/// one disk, with [`BLOCK_DEVICES`] and the device's own number. Asks no file server either.
///
/// # Errors
/// As `statx(2)`.
pub fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let found = known(fd, libc::STATX_INO | libc::STATX_TYPE)?;
    if found.mode & libc::S_IFMT == libc::S_IFBLK {
        return Ok((BLOCK_DEVICES, found.represented));
    }
    Ok((found.device, found.inode))
}

/// Returns whether a lock of libvirt's daemon may depend on it: a regular file, or a device open
/// for writing. A file open only for appending is a log of its own.
#[must_use]
pub fn may_have_lock(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
    match kind(fd) {
        libc::S_IFREG => !flags.contains(OFlag::O_APPEND),
        libc::S_IFBLK | libc::S_IFCHR => flags & OFlag::O_ACCMODE == OFlag::O_RDWR,
        _ => false,
    }
}

/// Returns whether an fd is a socket.
#[must_use]
pub fn is_socket(fd: impl AsFd) -> bool {
    kind(fd) == libc::S_IFSOCK
}

/// Returns whether an fd is a regular file, without asking a file server.
#[must_use]
pub fn is_regular_file(fd: impl AsFd) -> bool {
    kind(fd) == libc::S_IFREG
}

/// Returns whether an fd is a regular file without a name, like a memfd, without asking a file
/// server.
#[must_use]
pub fn is_nameless_file(fd: BorrowedFd<'_>) -> bool {
    let found = known(fd, libc::STATX_TYPE | libc::STATX_NLINK);
    found.is_ok_and(|found| found.mode & libc::S_IFMT == libc::S_IFREG && found.names_count == 0)
}

/// Metadata of an open file.
struct Known {
    device: u64,
    inode: u64,
    mode: u32,
    names_count: u64,
    /// Device that a device node stands for.
    represented: u64,
}

/// Returns the type of an open file, as in `stat(2)`; 0 if unknown.
pub(in crate::sys) fn kind(fd: impl AsFd) -> u32 {
    known(fd, libc::STATX_TYPE).map_or(0, |found| found.mode & libc::S_IFMT)
}

/// Returns the metadata that the kernel has cached. Where it does not support that, a file server
/// may be asked.
fn known(fd: impl AsFd, mask: libc::c_uint) -> io::Result<Known> {
    let fd = fd.as_fd();
    // What an fd is decides whether it is kept.
    calls::or_else(wait_out(|| known_already(fd, mask)), || {
        let found = fstat(fd)?;
        Ok(Known {
            device: found.st_dev,
            inode: found.st_ino,
            mode: found.st_mode,
            names_count: found.st_nlink,
            represented: found.st_rdev,
        })
    })
}

fn known_already(fd: BorrowedFd<'_>, mask: libc::c_uint) -> io::Result<Known> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let (number, no_path, room) = (fd.as_raw_fd(), c"".as_ptr(), found.as_mut_ptr());
    // The C library's wrapper has a fallback of its own.
    // SAFETY: the path ends with a NUL, and the kernel writes no more than the whole of `found`.
    let result = unsafe { libc::syscall(libc::SYS_statx, number, no_path, flags, mask, room) };
    Errno::result(result)?;
    // SAFETY: the kernel has filled it in.
    let found = unsafe { found.assume_init() };
    Ok(Known {
        device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        mode: found.stx_mode.into(),
        names_count: found.stx_nlink.into(),
        represented: libc::makedev(found.stx_rdev_major, found.stx_rdev_minor),
    })
}

//! File descriptors: adoption, flags, limits.

mod description;
mod flags;
mod inherited;
mod kind;
mod placed;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Whence, lseek};

pub use description::is_same_description;
pub use flags::{
    appends, is_marked, is_readable, is_writable, mark, set_append, set_blocking, set_cloexec,
    set_nonblocking,
};
pub use inherited::{
    adopt, adopt_listed, is, open_numbers, set_cloexec_of, set_cloexec_of_all, with_number,
};
pub(super) use kind::kind;
pub use kind::{
    BLOCK_DEVICES, device_and_inode, identity, is_nameless_file, is_regular_file, is_socket,
    may_have_lock,
};
pub use placed::place;

/// Returns the next range of a file from `offset` on that is no hole, and moves the file's
/// position.
///
/// # Errors
/// As `lseek(2)`.
pub fn next_data(fd: impl AsFd, offset: u64) -> io::Result<Option<Range<u64>>> {
    let seek = |offset: i64, whence| lseek(fd.as_fd(), offset, whence);
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let start = match seek(offset, Whence::SeekData) {
        Err(Errno::ENXIO) => return Ok(None),
        start => start?,
    };
    let end = seek(start, Whence::SeekHole)?;
    Ok(Some(start.cast_unsigned()..end.cast_unsigned()))
}

/// Reads up to `len_max` bytes of a file from `offset` and appends them to `bytes`. The spare
/// capacity is not zeroed before.
///
/// # Errors
/// As `pread(2)`.
pub fn read_behind(
    fd: impl AsFd,
    offset: u64,
    bytes: &mut Vec<u8>,
    len_max: usize,
) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
    bytes.reserve(len_max);
    let room = bytes.spare_capacity_mut();
    let len = room.len().min(len_max);
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: `room` is writable for `len` bytes, and the kernel only writes to it.
    let count = unsafe { libc::pread(fd, room.as_mut_ptr().cast(), len, offset) };
    let count = usize::try_from(Errno::result(count)?).unwrap_or(0);
    // SAFETY: the kernel has just filled in `count` bytes of the room behind the last.
    unsafe { bytes.set_len(bytes.len() + count) };
    Ok(count)
}

/// Raises the soft limit of open files to the hard limit, as libvirt's daemons do, and returns it.
///
/// # Errors
/// As `setrlimit(2)`.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Returns the limit of open files.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

#[cfg(test)]
mod tests;

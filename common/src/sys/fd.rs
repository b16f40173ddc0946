//! File descriptors: adoption, flags, limits.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};

use super::calls;

/// Stands for block devices; no file system has this device number.
pub const BLOCK_DEVICES: u64 = 0;

/// The kernel's numbers for the commands of [`mark`], which libc lacks.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;

/// Signal used as a mark, as no file is asked to send it; ours.
const MARK: libc::c_int = libc::SIGURG;

/// Takes ownership of an fd that this process inherited under a known number (socket activation, a
/// state document). It is made close-on-exec.
///
/// # Errors
/// `EBADF` when no such fd is open; nothing is owned then.
///
/// # Safety
/// Nothing else in this process owns an fd with this number.
pub unsafe fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    set_cloexec_of(number, true)?;
    // SAFETY: the fd is open, as just seen, and the caller guarantees that nothing owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes ownership of an fd that [`open_numbers`] has listed, without a change of its flags.
///
/// # Errors
/// `EBADF` for a negative number.
///
/// # Safety
/// The fd was open when this process began, nothing in it owns it, and nothing has closed it since.
pub unsafe fn adopt_listed(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the caller guarantees that it is open and that nothing owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes all open fds except the standard streams close-on-exec. With ten thousand fds one call
/// takes 4 ms less than a call for each.
///
/// # Errors
/// As `close_range(2)`: before Linux 5.11, `ENOSYS` or `EINVAL`.
pub fn set_cloexec_of_all() -> io::Result<()> {
    let (first, last) = (3_u32, u32::MAX);
    // SAFETY: it changes nothing but flags of fds.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result)?;
    Ok(())
}

/// Sets whether the fd of this number, whoever owns it, is closed by an exec.
///
/// # Errors
/// `EBADF` when no such fd is open.
pub fn set_cloexec_of(number: RawFd, closes: bool) -> io::Result<()> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: borrowed for this one call, which fails if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = if closes { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Marks an open file, across execs and other programs as well, by the signal that it would send if
/// it were asked to send any.
///
/// # Errors
/// As `fcntl(2)`.
pub fn mark(file: impl AsFd) -> io::Result<()> {
    // SAFETY: both arguments are numbers.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_SETSIG, MARK) };
    Errno::result(result)?;
    Ok(())
}

/// Returns whether an open file was [marked](mark).
pub fn is_marked(file: impl AsFd) -> bool {
    // SAFETY: both arguments are numbers.
    unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_GETSIG) == MARK }
}

/// Returns whether the fd with this number is open and `looks` so.
pub fn is(number: RawFd, looks: impl FnOnce(BorrowedFd<'_>) -> bool) -> bool {
    with_number(number, |fd| Ok(looks(fd))).unwrap_or(false)
}

/// Runs `action` on the fd with this number, whoever owns it.
///
/// # Errors
/// `EBADF` when no such fd is open, else those of `action`.
pub fn with_number<T>(
    number: RawFd,
    action: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<T> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(nix::libc::EBADF));
    }
    // SAFETY: borrowed for the action alone, and checked to be open. The caller keeps it from being
    // closed meanwhile.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_GETFD)?;
    action(fd)
}

/// Makes `fd` close-on-exec.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_cloexec(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Returns the numbers of all open fds except the standard streams, in order. Before anything is
/// opened, these are the inherited ones. Trying each number takes three times as long with ten
/// thousand open, listing `/proc/self/fd` longer still.
///
/// # Errors
/// As `read(2)` of `/proc/self/status`.
pub fn open_numbers() -> io::Result<Vec<RawFd>> {
    let mut status = File::open("/proc/self/status")?;
    let mut text = String::new();
    status.read_to_string(&mut text)?;
    let table = text.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let size = table.and_then(|size| size.trim().parse::<RawFd>().ok());
    let size = size.ok_or_else(|| io::Error::other("/proc/self/status has no FDSize"))?;
    let (mut numbers, mut next) = (Vec::new(), 3);
    while let Some(first) = (next..size).find(|&number| is(number, |_| true)) {
        // Each number is known to be open: this one was seen, and all below a free one are.
        next = first_free(&status, first).unwrap_or(0).clamp(first + 1, size);
        numbers.extend(first..next);
    }
    numbers.retain(|&number| number != status.as_raw_fd());
    Ok(numbers)
}

/// Returns the lowest free number from `first` on; `None` if none is below the limit of open files.
/// Fds beyond it may be left from before it was lowered.
fn first_free(any: impl AsFd, first: RawFd) -> Option<RawFd> {
    let free = fcntl(any, FcntlArg::F_DUPFD_CLOEXEC(first)).ok()?;
    // SAFETY: it has just been made, and nothing else knows its number.
    drop(unsafe { adopt_listed(free) });
    Some(free)
}

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
pub(super) fn kind(fd: impl AsFd) -> u32 {
    known(fd, libc::STATX_TYPE).map_or(0, |found| found.mode & libc::S_IFMT)
}

/// Returns the metadata that the kernel has cached. Where it does not support that, a file server
/// may be asked.
fn known(fd: impl AsFd, mask: libc::c_uint) -> io::Result<Known> {
    let fd = fd.as_fd();
    calls::or_else(known_already(fd, mask), || {
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

/// Returns whether `fd` is open for reading.
#[must_use]
pub fn is_readable(fd: impl AsFd) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE != OFlag::O_WRONLY)
}

/// Makes reads and writes of `fd` blocking.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_blocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Makes reads and writes of `fd` fail with `EAGAIN` instead of blocking. The flag belongs to the
/// open file description, and so applies to all who share it.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Makes every write of `fd` append to its file. The flag belongs to the open file description.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_append(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_APPEND))?;
    Ok(())
}

/// Returns whether every write of `fd` appends to its file.
#[must_use]
pub fn appends(fd: impl AsFd) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| flags.contains(OFlag::O_APPEND))
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

//! Fds by number: adoption of inherited ones, and their flags.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

/// Fds that a process has at the most, unless somebody has raised the kernel's limit (`nr_open`). To
/// try so many numbers takes a tenth of a second.
const NUMBERS_MAX: u64 = 1_048_576;

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

/// Returns the numbers of all open fds except the standard streams, in order. Before anything is
/// opened, these are the inherited ones. Trying each number takes three times as long with ten
/// thousand open, listing `/proc/self/fd` longer still. Without `/proc`, or a descriptor for it, all
/// numbers are tried that there may be.
#[must_use]
pub fn open_numbers() -> Vec<RawFd> {
    let table = Table::read().ok();
    let size = table.as_ref().map_or_else(numbers_max, |table| table.size);
    // Only a descriptor of our own is duplicated: closing the duplicate of an inherited one would
    // drop the POSIX locks on its file.
    let own = table.as_ref().map(|table| &table.status);
    let (mut numbers, mut next) = (Vec::new(), 3);
    while let Some(first) = (next..size).find(|&number| is(number, |_| true)) {
        // Each number is known to be open: this one was seen, and all below a free one are.
        let free = own.and_then(|own| first_free(own, first));
        next = free.unwrap_or(0).clamp(first + 1, size);
        numbers.extend(first..next);
    }
    numbers.retain(|&number| own.is_none_or(|own| number != own.as_raw_fd()));
    numbers
}

/// The table of this process's fds.
struct Table {
    status: File,
    /// No number is larger.
    size: RawFd,
}

impl Table {
    fn read() -> io::Result<Self> {
        let mut status = File::open("/proc/self/status")?;
        let mut text = String::new();
        status.read_to_string(&mut text)?;
        let size = text.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let size = size.and_then(|size| size.trim().parse().ok());
        let size = size.ok_or_else(|| io::Error::other("/proc/self/status has no FDSize"))?;
        Ok(Self { status, size })
    }
}

/// Returns the number that no fd can have, nor any above it.
fn numbers_max() -> RawFd {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(NUMBERS_MAX, |(_, hard)| hard);
    hard.min(NUMBERS_MAX).try_into().unwrap_or(RawFd::MAX)
}

/// Returns the lowest free number from `first` on; `None` if none is below the limit of open files.
/// Fds beyond it may be left from before it was lowered.
fn first_free(any: impl AsFd, first: RawFd) -> Option<RawFd> {
    let free = fcntl(any, FcntlArg::F_DUPFD_CLOEXEC(first)).ok()?;
    // SAFETY: it has just been made, and nothing else knows its number.
    drop(unsafe { adopt_listed(free) });
    Some(free)
}

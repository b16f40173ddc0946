//! Pidfds: information on a process, and its identity, which tells it from any other process with
//! the same number.
//!
//! Information from `/proc/self/fdinfo` is available also where `/proc` hides the processes of
//! other users (`hidepid=2`).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{fstat, stat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::Pid;

use super::calls::{self, Call, is_refused};
use super::pid_namespace::{is_shown_by_proc, numbers_in};
use super::{process, watch};

/// Magic number of pidfs.
const PIDFS: i64 = 0x5049_4446;

mod ioctl {
    // The kernel refuses any argument but 0.
    nix::ioctl_write_int_bad!(pidfd_get_pid_namespace, nix::request_code_none!(0xFF, 5));
}

/// Opens a pidfd of the process with the number `pid`. It becomes readable when the process ends,
/// even before it is reaped. Without pidfds it is a stand-in that does the same.
///
/// # Errors
/// As `open(2)`: `ESRCH` when there is no such process, `EINVAL` for 0 and below.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and no memory.
    let number = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    let number = calls::or_else(number.map_err(io::Error::from).map(Some), || Ok(None))?;
    let Some(number) = number else { return watch::stand_in(pid) };
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened this fd for us; nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns whether the kernel can open a pidfd by number.
#[must_use]
pub fn are_supported() -> bool {
    static ARE_SUPPORTED: LazyLock<bool> = LazyLock::new(|| Call::PidfdOpen.refusal().is_none());
    *ARE_SUPPORTED
}

/// Returns whether an fd is a pidfd.
pub fn is_one(fd: impl AsFd) -> bool {
    inode(&fd).is_some() || info(fd).is_ok_and(|info| info.contains("\nPid:"))
}

/// Returns whether the process of a pidfd has ended; a zombie has.
pub fn has_ended(pidfd: impl AsFd) -> bool {
    let pidfd = pidfd.as_fd();
    let mut polled = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) || watch::has_ended(pidfd)
}

/// Sends a signal to the process of a pidfd, never to a later one with its number. Without kernel
/// support the number is signalled, right after a check of its identity.
///
/// # Errors
/// As `pidfd_send_signal(2)`: `ESRCH` when it has ended and was reaped.
pub fn send_signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    let (pidfd, no_info) = (pidfd.as_fd(), std::ptr::null::<libc::siginfo_t>());
    let number = pidfd.as_raw_fd();
    // SAFETY: a null info is allowed and means what `kill` would say; the rest are integers.
    let status =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, signal as i32, no_info, 0) };
    match Errno::result(status).map_err(io::Error::from) {
        // `EBADF`: a stand-in.
        Err(error) if is_refused(&error) || error.raw_os_error() == Some(libc::EBADF) => {
            // What `/proc` calls another number may be anybody's here.
            let number = shown_number(pidfd)?;
            let number = if is_shown_by_proc()? { number } else { None };
            Ok(kill(Pid::from_raw(number.ok_or(Errno::ESRCH)?), signal)?)
        }
        result => result.map(drop),
    }
}

/// Returns the numbers of a process in the pid namespaces from that of `/proc` down to its own,
/// which comes last: 0 if it is not in that of `/proc`, and none when it has ended and was reaped.
///
/// # Errors
/// As `read(2)`; `Unsupported` on a kernel that does not tell (before 5.5).
pub fn numbers(pidfd: impl AsFd) -> io::Result<Vec<i32>> {
    let numbers = numbers_in(&info(pidfd)?).ok_or(io::ErrorKind::Unsupported)?;
    Ok(numbers.into_iter().filter(|&number| number >= 0).collect())
}

/// Returns the same by number, for processes without a pidfd: `/proc` may hide the process.
///
/// # Errors
/// As `read(2)`; `Unsupported` where `/proc` has other numbers than this process.
pub fn numbers_of(pid: i32) -> io::Result<Vec<i32>> {
    if !is_shown_by_proc()? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(numbers_in(&status).unwrap_or_else(|| vec![pid]))
}

/// Returns the inode of a process on pidfs (Linux 6.9), which is unique until the next boot.
#[must_use]
pub fn inode(pidfd: impl AsFd) -> Option<u64> {
    let is_pidfs = fstatfs(&pidfd).is_ok_and(|found| found.filesystem_type() == FsType(PIDFS));
    let found = is_pidfs.then(|| fstat(&pidfd).ok())??;
    Some(found.st_ino)
}

/// Returns its number in the namespace of `/proc`; `None` when it has ended and was reaped.
///
/// # Errors
/// As `read(2)`.
pub(super) fn number(pidfd: impl AsFd) -> io::Result<Option<i32>> {
    let info = info(pidfd)?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    Ok(number.filter(|&number| number > 0))
}

/// Returns the start time of a process, in ticks since boot.
///
/// # Errors
/// As `read(2)`: `NotFound` also for one that `/proc` does not show.
pub fn start_time(pidfd: impl AsFd) -> io::Result<u64> {
    process::start_time(shown_number(pidfd)?.ok_or(io::ErrorKind::NotFound)?)
}

/// Returns the pid namespace of a process, which may be outside this one's.
///
/// # Errors
/// As `ioctl_pidfd(2)` and `stat(2)`: `PermissionDenied` without the right to trace it. Before Linux
/// 6.11, `NotFound` for a process that `/proc` does not show.
pub fn namespace(pidfd: impl AsFd) -> io::Result<u64> {
    if let Ok(namespace) = ask_namespace(&pidfd) {
        return Ok(fstat(namespace)?.st_ino);
    }
    let number = shown_number(&pidfd)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(stat(format!("/proc/{number}/ns/pid").as_str())?.st_ino)
}

/// Returns the pid namespace of this process, if the kernel tells.
#[must_use]
pub fn own_namespace() -> Option<u64> {
    let shown = stat("/proc/self/ns/pid").map(|found| found.st_ino);
    shown.ok().or_else(|| namespace(open(std::process::id().cast_signed()).ok()?).ok())
}

/// Returns whether a process is in this one's pid namespace or in one below: no other can be
/// signalled. One that has ended counts as being there.
#[must_use]
pub fn is_within_reach(pidfd: impl AsFd) -> bool {
    let (number, no_info) = (pidfd.as_fd().as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a null info is allowed, and signal 0 is none; the rest are integers.
    let status = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, 0, no_info, 0) };
    Errno::result(status) != Err(Errno::EINVAL)
}

/// Returns the number of a process, or of a stand-in's, in `/proc`; `None` if it is not in there any
/// more, or never was.
fn shown_number(pidfd: impl AsFd) -> io::Result<Option<i32>> {
    match watch::number(&pidfd) {
        None => number(pidfd),
        number => Ok(number),
    }
}

fn ask_namespace(pidfd: impl AsFd) -> nix::Result<OwnedFd> {
    // SAFETY: the command takes no memory, and gives nothing but an error for another fd.
    let number = unsafe { ioctl::pidfd_get_pid_namespace(pidfd.as_fd().as_raw_fd(), 0) }?;
    // SAFETY: the kernel has just opened this fd for us; nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn info(pidfd: impl AsFd) -> io::Result<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests;

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
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::Pid;

use super::calls::{self, Call, is_refused};
use super::watch;

/// Magic number of pidfs.
const PIDFS: i64 = 0x5049_4446;

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
            let number = match watch::number(pidfd) {
                None => self::number(pidfd)?,
                number => number,
            };
            Ok(kill(Pid::from_raw(number.ok_or(Errno::ESRCH)?), signal)?)
        }
        result => result.map(drop),
    }
}

/// Returns the numbers of a process in the pid namespaces from that of `/proc` down to its own,
/// which comes last. None when it has ended and was reaped.
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
/// As `read(2)`.
pub fn numbers_of(pid: i32) -> io::Result<Vec<i32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(numbers_in(&status).unwrap_or_else(|| vec![pid]))
}

/// Returns the number of pid namespaces in which this process has a number, from that of `/proc`
/// on.
///
/// # Errors
/// As `read(2)`.
pub fn own_depth() -> io::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    // A kernel without pid namespaces has no such line, and one number.
    Ok(numbers_in(&status).map_or(1, |numbers| numbers.len()))
}

/// Returns the inode of a process on pidfs (Linux 6.9), which is unique until the next boot.
#[must_use]
pub fn inode(pidfd: impl AsFd) -> Option<u64> {
    let is_pidfs = fstatfs(&pidfd).is_ok_and(|found| found.filesystem_type() == FsType(PIDFS));
    let found = is_pidfs.then(|| nix::sys::stat::fstat(&pidfd).ok())??;
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

/// Returns the pid namespace of the process with this number.
///
/// # Errors
/// As `stat(2)`: `PermissionDenied` without the right to trace it.
pub fn namespace(pid: i32) -> io::Result<u64> {
    Ok(nix::sys::stat::stat(format!("/proc/{pid}/ns/pid").as_str())?.st_ino)
}

fn info(pidfd: impl AsFd) -> io::Result<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))
}

/// Parses the line `NSpid:`.
fn numbers_in(text: &str) -> Option<Vec<i32>> {
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests;

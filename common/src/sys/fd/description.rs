//! Open file descriptions, which duplicates of an fd share.

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// The kernel's number for the command (Linux 6.10), which libc lacks.
const F_DUPFD_QUERY: libc::c_int = 1027;

/// `KCMP_FILE` of `linux/kcmp.h`.
const KCMP_FILE: libc::c_int = 0;

/// Returns whether both are of one open file description; `None` where the kernel does not tell.
pub fn is_same_description(one: impl AsFd, other: impl AsFd) -> Option<bool> {
    let (one, other) = (one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    // SAFETY: all arguments are numbers.
    let answer = unsafe { libc::fcntl(one, F_DUPFD_QUERY, other) };
    if matches!(answer, 0 | 1) {
        return Some(answer == 1);
    }
    let own = nix::unistd::getpid().as_raw();
    let (one, other) = (libc::c_long::from(one), libc::c_long::from(other));
    // SAFETY: it takes numbers only, and touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, one, other) } {
        0 => Some(true),
        1..=3 => Some(false),
        _ => None,
    }
}

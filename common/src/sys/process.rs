//! This process: identity, environment, children, and going into the background.

mod background;
mod children;
mod detached;
mod stat;

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::poll;
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, Uid};

pub use background::{Daemonized, daemonize, report_status};
pub use children::{reap_children_of_thread, wait};
pub use detached::{reap, start_this_program};
pub use stat::start_time;
pub(super) use stat::{Stat, stat};

use super::timeout::timeout;

/// Returns whether this process runs as root and so serves the system rather than one user.
#[must_use]
pub fn is_privileged() -> bool {
    Uid::effective().is_root()
}

/// Returns the effective user id.
#[must_use]
pub fn effective_uid() -> u32 {
    Uid::effective().as_raw()
}

/// Returns the kernel's id of the calling thread, which is the process id on the main thread.
#[must_use]
pub fn thread_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Returns whether this is process 1 of its pid namespace, which inherits orphans.
#[must_use]
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Returns whether there is a process with this number, zombies and hidden ones included.
#[must_use]
pub fn exists(pid: i32) -> bool {
    pid > 0 && !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// Returns whether `/proc` shows the process with this number to us.
#[must_use]
pub fn is_shown(pid: i32) -> bool {
    std::fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false)
}

/// Returns [`thread_id`] without a system call after each thread's first.
#[must_use]
pub fn thread_id_cached() -> i32 {
    thread_local! {
        static THREAD: i32 = thread_id();
    }
    THREAD.with(|thread| *thread)
}

/// Returns whether a thread of this process computes or waits for a processor, and for nothing
/// else. An ended one does not.
#[must_use]
pub fn is_thread_running(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('R'))
}

/// Returns the path that `execve(2)` was given for this process's program: it may be relative to
/// the working directory of that moment.
#[must_use]
pub fn executed_path() -> Option<PathBuf> {
    // SAFETY: any type may be asked for, and a missing one gives 0.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if address.is_null() {
        return None;
    }
    // SAFETY: the kernel has put a string there, below the stack's bottom, where nothing changes it
    // for as long as the process lives.
    let path = unsafe { CStr::from_ptr(address) };
    Some(OsStr::from_bytes(path.to_bytes()).into())
}

/// Returns the number of threads of this process. An ending thread counts until the kernel has
/// dropped its share of the table of open files.
///
/// # Errors
/// As `read(2)` of `/proc/self/status`.
pub fn threads_count() -> io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let count = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.ok_or_else(|| io::Error::other("/proc/self/status has no Threads"))
}

/// Takes a variable out of the environment, so that no child or successor uses it.
///
/// # Safety
/// No other thread reads or writes the environment meanwhile.
pub unsafe fn remove_env(name: &str) {
    // SAFETY: the same condition.
    unsafe { std::env::remove_var(name) }
}

/// Runs `action` with the file mode creation mask `mask`, and restores the mask.
pub fn with_umask<T>(mask: u32, action: impl FnOnce() -> T) -> T {
    let old = umask(Mode::from_bits_truncate(mask));
    let result = action();
    umask(old);
    result
}

/// Returns milliseconds since boot, including suspended time.
#[must_use]
pub fn boot_time_ms() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    let time = time.map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns whether this process may signal those of other users; also if that cannot be told.
#[must_use]
pub fn may_signal_others() -> bool {
    /// Number of `CAP_KILL`.
    const KILL: u32 = 5;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_none_or(|set| set & (1 << KILL) != 0)
}

/// Sleeps for `time`, rounded up to milliseconds, or until a signal arrives.
pub fn pause(time: Duration) {
    // Unlike `clock_nanosleep` this call is always available.
    poll(&mut [], timeout(time)).ok();
}

#[cfg(test)]
mod tests;

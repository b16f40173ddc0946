//! This process: identity, environment, children, and going into the background.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::calls;

/// Children that are reaped in one call.
const REAPED_AT_ONCE_MAX: usize = 256;

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

/// Reaps ended children of the calling thread, up to a limit. Returns whether the limit was
/// reached.
///
/// Children of other threads are left to those, which need their exit status. The first thread
/// starts none, and has the inherited ones.
pub fn reap_children_of_thread() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD | WaitPidFlag::__WALL;
    let reap = || {
        let reaped = waitpid(None, Some(flags)).map_err(io::Error::from);
        let reaped = calls::or_else(reaped, || Ok(waitid(Id::All, flags | WaitPidFlag::WEXITED)?));
        reaped.is_ok_and(|status| status.pid().is_some())
    };
    (0..REAPED_AT_ONCE_MAX).all(|_| reap())
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

/// Fields of `/proc/PID/stat` between the name and the number of threads.
const FIELDS_BEFORE_THREADS: usize = 17;

/// Fields between that number and the start time.
const FIELDS_BETWEEN: usize = 1;

/// Part of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    /// Start time, in ticks since boot.
    pub(super) start: u64,
    /// The process is a zombie.
    pub(super) has_ended: bool,
}

/// Returns the start time of the process with this number, in ticks since boot.
///
/// # Errors
/// As `read(2)`: `NotFound` also for one that `/proc` hides.
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.start)
}

/// Reads `/proc/PID/stat` of the process with this number.
///
/// # Errors
/// As [`start_time`].
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in brackets and may contain any character.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split(' ');
    let is_zombie = rest.starts_with(['Z', 'X']);
    let threads = fields.nth(FIELDS_BEFORE_THREADS);
    let start = fields.nth(FIELDS_BETWEEN).and_then(|field| field.parse().ok());
    let start = start.ok_or(io::ErrorKind::InvalidData)?;
    // Its first thread may end before the others.
    Ok(Stat { start, has_ended: is_zombie && matches!(threads, Some("0" | "1")) })
}

/// Waits for the end of a child.
///
/// # Errors
/// As `wait4(2)`.
pub fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    calls::or_else(child.wait(), || {
        let id = Id::Pid(Pid::from_raw(child.id().cast_signed()));
        match waitid(id, WaitPidFlag::WEXITED)? {
            WaitStatus::Exited(_, status) => Ok(ExitStatus::from_raw(status << 8)),
            WaitStatus::Signaled(_, signal, _) => Ok(ExitStatus::from_raw(signal as i32)),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    })
}

/// Sleeps for `time`, rounded up to milliseconds, or until a signal arrives.
pub fn pause(time: Duration) {
    // Unlike `clock_nanosleep` this call is always available.
    let timeout = PollTimeout::try_from(time.as_micros().div_ceil(1000));
    poll(&mut [], timeout.unwrap_or(PollTimeout::MAX)).ok();
}

/// Side of a fork.
#[derive(Debug)]
pub enum Daemonized {
    /// The daemon itself. It writes one byte into the pipe when it is ready, or a status number
    /// when it fails; dropping it unwritten means that it died.
    Daemon(OwnedFd),
    /// The process that the user started: the daemon's byte, `None` if it died first.
    Launcher(Option<u8>),
}

/// Goes into the background like libvirt's daemons: working directory `/`, a session of its own,
/// stdin, stdout and stderr on `/dev/null`, and no way to get a controlling terminal again.
///
/// The launcher waits here for the daemon's byte.
///
/// # Errors
/// As `pipe2(2)`, `fork(2)`, `chdir(2)`, `open(2)`.
///
/// # Safety
/// No other thread has been started that may hold a lock: the daemon would wait for it for ever.
pub unsafe fn daemonize() -> io::Result<Daemonized> {
    let (status_reader, status_writer) = super::pipe::pipe()?;
    // SAFETY: the caller guarantees that no other thread holds anything, so the child may use
    // everything.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => {
            drop(status_writer);
            Ok(Daemonized::Launcher(read_status(status_reader)))
        }
        ForkResult::Child => {
            drop(status_reader);
            detach()?;
            // SAFETY: as above; the second fork leaves a process that leads no session.
            match unsafe { fork() }? {
                ForkResult::Parent { .. } => std::process::exit(0),
                ForkResult::Child => Ok(Daemonized::Daemon(status_writer)),
            }
        }
    }
}

/// Writes the daemon's status byte for the launcher.
///
/// # Errors
/// As `write(2)`.
pub fn report_status(launcher: impl AsFd, status: u8) -> io::Result<()> {
    nix::unistd::write(launcher, &[status])?;
    Ok(())
}

fn detach() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

fn read_status(reader: OwnedFd) -> Option<u8> {
    let mut byte = [0];
    File::from(reader).read_exact(&mut byte).ok()?;
    let [status] = byte;
    Some(status)
}

#[cfg(test)]
mod tests;

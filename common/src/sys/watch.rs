//! Stand-ins for pidfds, where the kernel has none: the read end of a pipe whose write end a thread
//! closes when the process has ended. The thread polls `/proc`, and is ended before an exec, which
//! only a single-threaded process makes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::pid_namespace::is_shown_by_proc;
use super::process::{self, Stat};
use super::{fd, pipe, signal};

/// Interval of polls.
const PERIOD: Duration = Duration::from_millis(250);

/// Interval of polls of processes that are watched briefly, such as programs that only answer a
/// question, if there are few.
const SHORT_PERIOD: Duration = Duration::from_millis(10);
const SHORT_TIME: Duration = Duration::from_secs(1);
const FEW: usize = 16;

/// Stack size of the polling thread, in bytes.
const STACK_BYTES: usize = 65_536;

/// A process with a stand-in.
#[derive(Debug)]
struct Watched {
    pid: i32,
    start: u64,
    since: Instant,
    /// Inode of the pipe, which copies of the stand-in share.
    inode: u64,
    writer: OwnedFd,
}

#[derive(Debug)]
struct Watch {
    processes: Vec<Watched>,
    has_thread: bool,
    /// Number of guards that keep the thread from running.
    resting: usize,
}

/// Guard during which no thread polls.
#[derive(Debug)]
pub struct Resting(());

static WATCH: Mutex<Watch> =
    Mutex::new(Watch { processes: Vec::new(), has_thread: false, resting: 0 });
static PAUSE: Condvar = Condvar::new();

/// Makes a stand-in for a pidfd of the process with this number.
///
/// # Errors
/// As `pidfd_open(2)`; `NotFound` for one that `/proc` hides, `Unsupported` where `/proc` has other
/// numbers, as `pthread_create(3)`.
pub(super) fn stand_in(pid: i32) -> io::Result<OwnedFd> {
    if pid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    if !is_shown_by_proc()? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let found = process::stat(pid);
    let Stat { start, .. } = found.map_err(|error| match process::exists(pid) {
        true => error,
        false => Errno::ESRCH.into(),
    })?;
    let (reader, writer) = pipe::pipe()?;
    let (_, inode) = fd::device_and_inode(&reader)?;
    let mut watch = watch();
    watch.call_thread()?;
    watch.processes.push(Watched { pid, start, since: Instant::now(), inode, writer });
    Ok(reader)
}

/// Returns the number of a stand-in's process, unless that has ended or the fd is no stand-in.
pub(super) fn number(stand_in: impl AsFd) -> Option<i32> {
    find(stand_in, |process| (!process.has_ended()).then_some(process.pid))?
}

/// Returns whether this is a stand-in for a process that has ended, checked right now.
pub(super) fn has_ended(stand_in: impl AsFd) -> bool {
    find(stand_in, Watched::has_ended).unwrap_or(false)
}

/// Ends the polling thread, which takes a moment. Processes that end meanwhile are found by a later
/// thread.
pub fn rest() -> Resting {
    watch().resting += 1;
    PAUSE.notify_one();
    Resting(())
}

impl Drop for Resting {
    fn drop(&mut self) {
        let mut watch = watch();
        watch.resting = watch.resting.saturating_sub(1);
        if !watch.processes.is_empty()
            && let Err(error) = watch.call_thread()
        {
            tracing::error!(target: "daemon", "Unable to watch for the end of processes: {error}");
        }
    }
}

impl Watch {
    /// Starts the thread. An earlier one that is about to end may still run.
    fn call_thread(&mut self) -> io::Result<()> {
        if !self.has_thread && self.resting == 0 {
            let thread = thread::Builder::new().name("ends".into()).stack_size(STACK_BYTES);
            thread.spawn(look)?;
            self.has_thread = true;
        }
        PAUSE.notify_one();
        Ok(())
    }
}

fn find<T>(stand_in: impl AsFd, look: impl FnOnce(&Watched) -> T) -> Option<T> {
    let watch = watch();
    if watch.processes.is_empty() {
        // The usual case.
        return None;
    }
    let (_, inode) = fd::device_and_inode(stand_in).ok()?;
    watch.processes.iter().find(|process| process.inode == inode).map(look)
}

impl Watched {
    /// Returns whether the process has ended. One that cannot be checked now has not.
    fn has_ended(&self) -> bool {
        match process::stat(self.pid) {
            Ok(stat) => stat.start != self.start || stat.has_ended,
            Err(_) => !process::exists(self.pid),
        }
    }
}

/// Polls until no process is left to watch, or until the thread is ended.
fn look() {
    // The signal set is fixed, so this cannot fail.
    signal::block().ok();
    let mut watch = watch();
    while watch.resting == 0 && !watch.processes.is_empty() {
        let is_new = |it: &Watched| it.since.elapsed() < SHORT_TIME;
        let is_short = watch.processes.len() <= FEW && watch.processes.iter().any(is_new);
        let period = if is_short { SHORT_PERIOD } else { PERIOD };
        let timeout = PAUSE.wait_timeout(watch, period);
        (watch, _) = timeout.unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |it: &Watched| !pipe::has_no_reader(&it.writer).unwrap_or(false);
        watch.processes.retain(|process| is_wanted(process) && !process.has_ended());
    }
    watch.has_thread = false;
}

fn watch() -> MutexGuard<'static, Watch> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

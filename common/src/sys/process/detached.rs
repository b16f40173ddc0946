//! Processes that nobody waits for.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdin, dup2_stdout, fork};

/// The program that this process runs, whatever is at its path now.
const THIS_PROGRAM: &CStr = c"/proc/self/exe";

/// Starts this process's program once more, with these arguments, and with two pipes as its stdin and
/// stdout. Returns its pid.
///
/// Unlike `posix_spawn(3)` this does not wait until the program is executed. The kernel closes the
/// child's copies of our files before, and a file system that hangs may hold it up there. Until then
/// it has copies of all our descriptors.
///
/// # Errors
/// As `fork(2)`.
pub fn start_this_program(
    arguments: &[CString],
    stdin: &OwnedFd,
    stdout: &OwnedFd,
) -> io::Result<i32> {
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: until it executes the program or exits, the child calls nothing but system calls that
    // are allowed in the child of a process with threads, and allocates nothing.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let empty = SigSet::empty();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&empty), None).ok();
            if dup2_stdin(stdin).and_then(|()| dup2_stdout(stdout)).is_ok() {
                // SAFETY: the array ends with a null pointer, and all of it outlives the call.
                unsafe {
                    libc::execv(THIS_PROGRAM.as_ptr(), pointers.as_ptr());
                }
            }
            // SAFETY: nothing of this program is run any more.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Takes note of the end of a child, if it has ended. Returns whether nothing is left of it.
#[must_use]
pub fn reap(pid: i32) -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    match waitpid(Pid::from_raw(pid), Some(flags)) {
        Ok(status) => status.pid().is_some(),
        Err(errno) => errno != Errno::EINTR,
    }
}

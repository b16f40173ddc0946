//! The filter: a small program for the kernel, which runs it at each system call.
#![expect(unsafe_code, reason = "nix knows no seccomp")]
#![expect(clippy::disallowed_methods, reason = "what it gives is an fd that nobody owns yet")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};

use super::calls::Call;

/// Where things are in what the kernel shows the filter (`struct seccomp_data`), in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const ARGUMENT_BYTES: u32 = 8;

#[cfg(target_arch = "x86_64")]
const OUR_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OUR_ARCHITECTURE: u32 = 0xc000_00b7;

/// Answers these calls with this error for the rest of this process's life, or all others if these
/// are those that are allowed.
///
/// # Errors
/// The kernel takes no such filter.
pub fn refuse(calls: &[Call], are_allowed: bool, errno: Errno) -> io::Result<()> {
    let (allow, refuse) =
        (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | (errno as i32).unsigned_abs());
    let filter = match are_allowed {
        true => filter(calls, allow, refuse),
        false => filter(calls, refuse, allow),
    };
    install(filter, 0).map(drop)
}

/// Has whoever listens at the fd that is given back decide on these calls of this thread, and of all
/// that comes of it; on all calls if none is named.
///
/// # Errors
/// The kernel takes no such filter.
pub fn ask(calls: &[Call]) -> io::Result<OwnedFd> {
    let (allow, ask) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
    let filter = filter(calls, ask, if calls.is_empty() { ask } else { allow });
    // A signal would have the call begun, and counted, again.
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let listener = install(filter, flags)?;
    // SAFETY: the kernel has just made it for this call, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn install(mut filter: Vec<sock_filter>, flags: libc::c_ulong) -> io::Result<i32> {
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: filter.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs()?;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program is as long as it says, and the kernel copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    i32::try_from(Errno::result(result)?).map_err(io::Error::other)
}

/// Gives one answer for these calls and another for the rest. Programs of another architecture can
/// do what they like.
fn filter(calls: &[Call], listed: u32, others: u32) -> Vec<sock_filter> {
    let mut filter =
        vec![load(ARCHITECTURE), if_equal(OUR_ARCHITECTURE, 1, 0), answer(libc::SECCOMP_RET_ALLOW)];
    for call in calls {
        filter.push(load(NUMBER));
        if let Some((argument, value)) = call.command {
            filter.extend([
                if_equal(call.number, 0, 3),
                load(ARGUMENTS + argument * ARGUMENT_BYTES),
                if_equal(value, 0, 1),
            ]);
        } else {
            filter.push(if_equal(call.number, 0, 1));
        }
        filter.push(answer(listed));
    }
    filter.push(answer(others));
    filter
}

/// Loads the word at this offset; of an argument, its lower half.
fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, (0, 0))
}

/// Skips so many statements if what was loaded has this value, and so many if not.
fn if_equal(value: u32, skipped: u8, else_skipped: u8) -> sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, (skipped, else_skipped))
}

fn answer(with: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, with, (0, 0))
}

fn statement(code: u32, k: u32, (jt, jf): (u8, u8)) -> sock_filter {
    let code = u16::try_from(code).expect("a code has 16 bits");
    sock_filter { code, jt, jf, k }
}

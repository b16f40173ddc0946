//! Executes a program that the kernel refuses some system calls, as a container's seccomp profile
//! does, or an older kernel.
//!
//! `refusing ERRNO CALL[,CALL...] PROGRAM [ARGUMENT...]`, with `EPERM` or another error's name, and
//! calls such as `splice`, `fcntl:F_SETPIPE_SZ`, `ioctl:FIONREAD`, `getsockopt:SO_PEERPIDFD`. With
//! a `!` in front of the first one all others are refused; `!engine` allows those that container
//! engines do. What the program executes is refused them as well.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use tests::seccomp;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let error = run(&arguments);
    eprintln!("refusing: {error}");
    ExitCode::from(2)
}

/// Returns only when something is wrong, and says what.
fn run(arguments: &[OsString]) -> String {
    let [errno, calls, program, rest @ ..] = arguments else {
        return "usage: refusing ERRNO CALL[,CALL...] PROGRAM [ARGUMENT...]".to_owned();
    };
    let (name, calls) = (errno.to_string_lossy(), calls.to_string_lossy());
    let Some(errno) = errno_named(&name) else { return format!("no error is called {name}") };
    let (are_allowed, names) = match calls.strip_prefix('!') {
        Some(names) => (true, names),
        None => (false, &*calls),
    };
    let named = names.split(',').map(seccomp::named).collect::<Result<Vec<_>, _>>();
    let calls = match named {
        _ if names == "engine" => seccomp::engine_calls(),
        Ok(calls) => calls,
        Err(unknown) => return format!("no system call is called {unknown}"),
    };
    match seccomp::refuse(&calls, are_allowed, errno) {
        Ok(()) => Command::new(program).args(rest).exec().to_string(),
        Err(error) => format!("seccomp: {error}"),
    }
}

fn errno_named(name: &str) -> Option<Errno> {
    (1..=Errno::EHWPOISON as i32).map(Errno::from_raw).find(|errno| format!("{errno:?}") == name)
}

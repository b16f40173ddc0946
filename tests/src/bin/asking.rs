//! Executes a program some of whose system calls, or all, are decided on by whoever listens at a socket.
//!
//! `asking SOCKET CALL[,CALL...]|all PROGRAM [ARGUMENT...]`, with calls as in `refusing`. The socket is sent
//! one byte with what the kernel asks through. The first call that is decided on may be that of `execve`.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::seccomp;
use tests::wire::Connection;

static LISTENER: OnceLock<OwnedFd> = OnceLock::new();
static IS_SENT: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let error = run(&arguments);
    eprintln!("asking: {error}");
    ExitCode::from(2)
}

/// Returns only when something is wrong, and says what.
fn run(arguments: &[OsString]) -> String {
    let [socket, calls, program, ..] = arguments else {
        return "usage: asking SOCKET CALL[,CALL...]|all PROGRAM [ARGUMENT...]".to_owned();
    };
    let calls = match &*calls.to_string_lossy() {
        "all" => Ok(Vec::new()),
        names => names.split(',').map(seccomp::named).collect::<Result<Vec<_>, _>>(),
    };
    let calls = match calls {
        Ok(calls) => calls,
        Err(unknown) => return format!("no system call is called {unknown}"),
    };
    let text = |argument: &OsString| CString::new(argument.clone().into_vec());
    let words = arguments[2..].iter().map(text).collect::<Result<Vec<_>, _>>();
    let (Ok(program), Ok(words)) = (text(program), words) else {
        return "a word with a zero".to_owned();
    };
    let socket = PathBuf::from(socket);
    // A thread that is there before the filter is not asked about.
    std::thread::spawn(move || send_listener(&socket));
    match seccomp::ask(&calls) {
        Ok(listener) => drop(LISTENER.set(listener)),
        Err(error) => return format!("seccomp: {error}"),
    }
    // Not one system call from here on that is not the program's.
    while !IS_SENT.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
    match nix::unistd::execv(&program, &words) {
        Ok(never) => match never {},
        Err(error) => error.to_string(),
    }
}

fn send_listener(socket: &Path) {
    const PAUSE: Duration = Duration::from_micros(200);
    let listener = loop {
        match LISTENER.get() {
            Some(listener) => break listener,
            None => std::thread::sleep(PAUSE),
        }
    };
    let mut connection = Connection::open(socket).expect("connecting to whoever decides");
    connection.send_beside(&[0], &[listener.as_fd()]).expect("sending the listener");
    IS_SENT.store(true, Ordering::Release);
}

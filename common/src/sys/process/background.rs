//! Going into the background.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use crate::sys::pipe;

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
    let (status_reader, status_writer) = pipe::pipe()?;
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

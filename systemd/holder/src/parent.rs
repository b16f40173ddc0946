//! The daemon as a child of the holder: started, started again when it dies, and reaped.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::log::Log;
use crate::set::Set;

/// Pause before the daemon is started again, and the longest. It doubles each time that the daemon
/// has died early. Ours: the first is that of the daemons' units.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Life of a daemon that did not die early.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// Exit status of a shell for a program that was ended by a signal, with the signal's number added.
const STATUS_OF_SIGNAL: i32 = 128;

/// Exit status when the daemon cannot be started.
const STATUS_UNSTARTED: u8 = 127;

/// Environment variable that tells the daemon that its fds end with the holder.
pub(crate) const PRESERVE: &str = "FDSTORE_PRESERVE";

/// Starts the daemon.
#[derive(Debug)]
pub(crate) struct Parent {
    program: Vec<OsString>,
    child: Option<Pid>,
    started_at: Instant,
    start_at: Option<Instant>,
    pause: Duration,
    /// A signal has told the daemon to end.
    is_stopping: bool,
    /// The daemon has said at some time that it is ready.
    pub(crate) has_been_ready: bool,
    /// Exit status of the last daemon.
    status: u8,
}

impl Parent {
    pub(crate) fn new(program: Vec<OsString>) -> Self {
        let now = Instant::now();
        Self {
            program,
            child: None,
            started_at: now,
            start_at: Some(now),
            pause: PAUSE_MIN,
            is_stopping: false,
            has_been_ready: false,
            status: 0,
        }
    }

    /// Returns when the daemon is to be started.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        self.start_at
    }

    /// Starts the daemon if that is due. Returns the exit status if that fails.
    pub(crate) fn start_if_due(&mut self, set: &mut Set, log: &Log) -> Option<u8> {
        if self.start_at.is_none_or(|at| at > Instant::now()) {
            return None;
        }
        (self.start_at, self.started_at) = (None, Instant::now());
        match self.start(set) {
            Ok(pid) => {
                self.child = Some(pid);
                set.only = Some(pid.as_raw());
                None
            }
            Err(error) => {
                log.say(&format!("unable to start the daemon: {error}"));
                Some(STATUS_UNSTARTED)
            }
        }
    }

    /// Passes a signal on to the daemon. Returns the exit status if there is none to end.
    pub(crate) fn pass_on(&mut self, signal: Signal) -> Option<u8> {
        let ends = matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT);
        self.is_stopping |= ends;
        match self.child {
            Some(pid) => {
                // It was not reaped, so its number is no other's; it may have ended.
                kill(pid, signal).ok();
                None
            }
            None => ends.then_some(self.status),
        }
    }

    /// Reaps all children, among them orphans that process 1 inherits. Returns the exit status if
    /// the daemon has ended and is not to be started again.
    pub(crate) fn reap(&mut self, set: &Set, log: &Log) -> Option<u8> {
        let mut outcome = None;
        while let Ok(ended) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match ended {
                WaitStatus::StillAlive => break,
                _ if ended.pid() == self.child => outcome = self.has_ended(ended, set, log),
                _ => {}
            }
        }
        outcome
    }

    fn has_ended(&mut self, ended: WaitStatus, set: &Set, log: &Log) -> Option<u8> {
        self.child = None;
        let (status, is_orderly) = match ended {
            WaitStatus::Exited(_, status) => (status, status == 0),
            WaitStatus::Signaled(_, signal, _) => (STATUS_OF_SIGNAL + signal as i32, false),
            _ => (STATUS_OF_SIGNAL, false),
        };
        self.status = u8::try_from(status).unwrap_or(u8::MAX);
        // One that has never run has nothing to lose, and what is wrong may be wrong for good.
        let is_failed_start =
            matches!(ended, WaitStatus::Exited(..)) && !self.has_been_ready && set.items.len() == 0;
        if self.is_stopping || is_orderly || is_failed_start {
            return Some(self.status);
        }
        if self.started_at.elapsed() >= LIFE_MIN {
            self.pause = PAUSE_MIN;
        }
        let ms = self.pause.as_millis();
        log.say(&format!("the daemon has ended with status {status}; starts again in {ms} ms"));
        self.start_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        None
    }

    /// Starts this program anew, to take the set and execute the daemon.
    fn start(&self, set: &Set) -> io::Result<Pid> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("exec").arg(address_of(set)?).arg("--").args(&self.program);
        command.env(PRESERVE, "no");
        let child = command.spawn()?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    }
}

/// Returns the addresses of an abstract set, for the command line.
fn address_of(set: &Set) -> io::Result<OsString> {
    let claims = set.sockets.claims.local_addr()?;
    let messages = set.sockets.messages.local_addr()?;
    let name = |name: Option<&[u8]>| name.map(<[u8]>::to_vec).ok_or(io::ErrorKind::InvalidData);
    let (claims, messages) = (name(claims.as_abstract_name())?, name(messages.as_abstract_name())?);
    Ok(OsString::from_vec([b"@", &*claims, b",@", &*messages].concat()))
}

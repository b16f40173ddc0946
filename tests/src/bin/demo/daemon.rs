//! One of the two daemons, run in the scratch directory.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::failure::{Failure, promised};
use crate::role::{OWN_EXECUTABLE, Role};
use crate::{DEADLINE, PAUSE};

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    process: Child,
    socket: PathBuf,
    stderr: PathBuf,
    upgrades: u32,
}

impl Daemon {
    /// Starts it with all of its files below `scratch`, and waits until it serves.
    pub(crate) fn start(role: Role, scratch: &Path, settings: &str) -> Result<Self, Failure> {
        let name = role.name();
        let file = |extension| scratch.join(format!("{name}.{extension}"));
        let (config, stderr) = (file("conf"), file("stderr"));
        // Of what is no trouble only what concerns upgrades.
        let common = format!(
            "unix_sock_dir = \"{}\"\nlog_level = 3\nlog_filters = \"2:daemon\"\n\
             log_outputs = \"1:stderr\"\n{settings}",
            scratch.display()
        );
        let failed = |error| Failure::system(format!("starting {name}"), error);
        fs::write(&config, common).map_err(failed)?;
        let program = scratch.join(name);
        symlink(OWN_EXECUTABLE, &program).map_err(failed)?;
        let process = role
            .command_at(&program)
            .env("HOME", scratch)
            .arg("-f")
            .arg(config)
            .arg("-p")
            .arg(file("pid"))
            .stderr(File::create(&stderr).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let socket = scratch.join(format!("{name}-sock"));
        let mut daemon = Self { name, process, socket, stderr, upgrades: 0 };
        daemon.wait_until_it_serves()?;
        Ok(daemon)
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where it serves.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// All that it has said.
    pub(crate) fn messages(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Stops it from running, as an overloaded machine might; returns when it has stopped.
    pub(crate) fn suspend(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.process_id(), Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => Ok(()),
            Ok(other) => Err(Failure::Promise(format!("{}: {other:?}", self.name))),
            Err(error) => Err(Failure::system("waiting for a daemon", error)),
        }
    }

    /// Lets it run on.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGCONT)
    }

    /// Lets it execute what stands where it was started from, by SIGUSR1. Returns how long it took
    /// until that had taken over, which has to be in the same process.
    pub(crate) fn upgrade(&mut self) -> Result<Duration, Failure> {
        self.upgrades += 1;
        let success = format!(", generation {}: ", self.upgrades);
        let begin = Instant::now();
        self.signal(Signal::SIGUSR1)?;
        while !self.messages().contains(&success) {
            if let Some(status) = self.ended()? {
                return Err(self.died(status));
            }
            promised(
                begin.elapsed() < DEADLINE,
                format!("{} is not upgraded: {}", self.name, self.messages().trim()),
            )?;
            std::thread::sleep(PAUSE);
        }
        Ok(begin.elapsed())
    }

    /// Asks it to end, by SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits for its end, which has to be a success.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.died(status)),
                None => {}
            }
            promised(Instant::now() < deadline, format!("{} does not end", self.name))?;
            std::thread::sleep(PAUSE);
        }
    }

    fn wait_until_it_serves(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        while UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = self.ended()? {
                return Err(self.died(status));
            }
            promised(Instant::now() < deadline, format!("{} does not serve", self.name))?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.process.try_wait().map_err(|error| Failure::system("waiting for a daemon", error))
    }

    fn died(&self, status: ExitStatus) -> Failure {
        Failure::Promise(format!("{} ended with {status}: {}", self.name, self.messages().trim()))
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.process_id(), signal)
            .map_err(|error| Failure::system(format!("{signal} to {}", self.name), error))
    }

    fn process_id(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }
}

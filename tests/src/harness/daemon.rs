//! A started daemon: its sockets, its process, its end.

use std::collections::HashSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::{DEADLINE, eventually, eventually_within};
use super::{Host, Mode, Subject};
use crate::wire::{Connection, LockClient, LogClient};

/// How often it is checked, while waiting for readiness, that the daemon still runs.
const CHECK_PERIOD: Duration = Duration::from_millis(50);

/// How a daemon ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A daemon's process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    subject: Subject,
    host: Arc<Host>,
    mode: Mode,
    child: Child,
    pid: u32,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
    notify: UnixDatagram,
}

/// Where a daemon's words go.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
    /// What it tells systemd.
    pub(super) notify: UnixDatagram,
}

impl Daemon {
    pub(super) fn new(
        subject: Subject,
        host: Arc<Host>,
        mode: Mode,
        child: Child,
        streams: Streams,
    ) -> Self {
        let (pid, Streams { stdout, stderr, notify }) = (child.id(), streams);
        Self { subject, host, mode, child, pid, ended: None, stdout, stderr, notify }
    }

    /// The host it runs on.
    pub fn host(&self) -> Arc<Host> {
        Arc::clone(&self.host)
    }

    /// A path for a log or lease, in a directory that exists.
    pub fn file(&self, name: &str) -> PathBuf {
        self.host.file(name)
    }

    /// Which daemon it was started as.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Its process id, in the pid namespace of the test.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The main socket, as this process reaches it.
    pub fn main_socket(&self) -> PathBuf {
        self.run_directory().join(format!("{}-sock", self.subject.program.name()))
    }

    /// The admin socket, as this process reaches it.
    pub fn admin_socket(&self) -> PathBuf {
        self.run_directory().join(format!("{}-admin-sock", self.subject.program.name()))
    }

    /// The pid file, as this process reaches it.
    pub fn pid_file(&self) -> PathBuf {
        let directory = match self.mode {
            Mode::System | Mode::SystemOfStranger => self.host.path("run"),
            Mode::Session | Mode::SessionOfStranger => self.run_directory(),
        };
        directory.join(format!("{}.pid", self.subject.program.name()))
    }

    /// The directory of the sockets, as this process reaches it.
    pub fn run_directory(&self) -> PathBuf {
        self.host.path(match self.mode {
            Mode::System | Mode::SystemOfStranger => "run/libvirt",
            Mode::Session | Mode::SessionOfStranger => "user/run/libvirt",
        })
    }

    /// A connection to the main socket.
    pub fn connect_main(&self) -> Connection {
        Connection::open(&self.main_socket()).expect("connecting to the main socket")
    }

    /// A connection to the admin socket.
    pub fn connect_admin(&self) -> Connection {
        Connection::open(&self.admin_socket()).expect("connecting to the admin socket")
    }

    /// A client of the log program.
    pub fn log_client(&self) -> LogClient {
        LogClient::connect(&self.main_socket()).expect("connecting to the main socket")
    }

    /// A client of the lock program.
    pub fn lock_client(&self) -> LockClient {
        LockClient::connect(&self.main_socket()).expect("connecting to the main socket")
    }

    /// How this process reaches what the daemon calls `path` (absolute), private mounts included.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.proc("root").join(path.trim_start_matches('/'))
    }

    /// An entry of its `/proc` directory.
    pub fn proc(&self, entry: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(entry)
    }

    /// A field of `/proc/PID/status`, without the unit.
    pub fn status_field(&self, name: &str) -> String {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let field = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.unwrap_or_default().trim().trim_end_matches(" kB").to_owned()
    }

    /// The states of its threads, as the kernel's letters: `T` for one that is stopped.
    pub fn thread_states(&self) -> Vec<char> {
        let state = |task: &Path| {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            let state =
                status.lines().find_map(|line| line.strip_prefix("State:\t")?.chars().next());
            // One that has ended since.
            state.unwrap_or('X')
        };
        let tasks = fs::read_dir(self.proc("task")).expect("its threads");
        tasks.flatten().map(|task| state(&task.path())).collect()
    }

    /// A field of `/proc/PID/status` that is a size, in KiB.
    pub fn memory_kib(&self, name: &str) -> u64 {
        self.status_field(name).parse().expect("a number of KiB")
    }

    /// How many descriptors it has open.
    pub fn fd_count(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("reading its descriptors").count()
    }

    /// From now on it can open no more than so many descriptors beyond those that it has.
    pub fn allow_more_fds(&self, count: usize) {
        let entries = fs::read_dir(self.proc("fd")).expect("reading its descriptors").flatten();
        let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let open: HashSet<u64> = open.collect();
        let mut free = (0..).filter(|number| !open.contains(number));
        self.limit_fds(free.nth(count).expect("there is no end of numbers"));
    }

    /// Lets it have descriptors with numbers below `fds_max` only.
    pub fn limit_fds(&self, fds_max: u64) {
        let (pid, limit) = (self.pid.to_string(), format!("--nofile={fds_max}:"));
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(limited.expect("prlimit can be run").success(), "limiting fds");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).expect("sending a signal");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll_exit().is_none()
    }

    /// Ends it with SIGTERM.
    pub fn stop(mut self) -> Exit {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end, which must come by itself.
    pub fn wait(&mut self) -> Exit {
        let ended = eventually_within(DEADLINE, || self.poll_exit().is_some());
        assert!(ended, "still running; it said: {}", self.stderr());
        let status = self.poll_exit().expect("it has just ended");
        let stdout = fs::read_to_string(&self.stdout).unwrap_or_default();
        Exit { code: status.code(), signal: status.signal(), stdout, stderr: self.stderr() }
    }

    /// What it has written to standard error until now.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Waits until it has written this to standard error, which it does when it has the time.
    #[track_caller]
    pub fn expect_said(&self, text: &str) {
        let is_said = eventually_within(DEADLINE, || self.stderr().contains(text));
        assert!(is_said, "nothing of {text} in: {}", self.stderr());
    }

    /// What it tells systemd next, `None` when nothing comes within `patience`.
    pub fn notification(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.notify.set_read_timeout(Some(patience)).expect("setting a timeout");
        let length = self.notify.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    pub(super) fn wait_until_serving(&mut self) {
        eventually("the daemon is ready", || {
            if let Some(status) = self.poll_exit().filter(|_| !self.is_detached()) {
                panic!("it ended at once, {status}: {}", self.stderr());
            }
            let text = self.notification(CHECK_PERIOD).unwrap_or_default();
            text.lines().any(|line| line == "READY=1")
        });
    }

    pub(super) fn adopt_from_pid_file(&mut self) {
        let text = fs::read_to_string(self.pid_file()).expect("reading the pid file");
        self.pid = text.parse().expect("a decimal number in the pid file");
        self.wait_until_serving();
    }

    /// Takes the first process of a pid namespace that was made for the daemon.
    pub(super) fn adopt_first_of_namespace(&mut self) {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        eventually("there is a process in the namespace", || {
            let children = fs::read_to_string(&path).unwrap_or_default();
            // Shell commands that come before it are in none.
            let first = children.trim();
            if namespace(first).is_some_and(|it| Some(it) != namespace("self")) {
                self.pid = first.parse().expect("the number of a child");
            }
            self.is_detached()
        });
    }

    fn poll_exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("waiting for the daemon");
        }
        self.ended
    }

    fn is_detached(&self) -> bool {
        self.pid != self.child.id()
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.pid.try_into().expect("a process id is positive"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_detached() {
            // It may have ended by itself.
            kill(self.nix_pid(), Signal::SIGKILL).ok();
        } else if self.poll_exit().is_none() {
            self.child.kill().expect("killing the daemon");
            self.child.wait().expect("waiting for the daemon");
        }
    }
}

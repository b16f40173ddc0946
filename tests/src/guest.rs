//! Processes that stand in for QEMU: connected to virtlockd for themselves.
//!
//! A stand-in is the test executable itself, run once more for the one test that [`stand_in`] is
//! the body of. Test crates that need it have that test at `guests::stand_in`, ignored.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, eventually};
use crate::wire::{LockClient, Owner};

/// Where a stand-in finds the daemon.
const SOCKET: &str = "VIRT_TESTS_GUEST_SOCKET";

/// A process that stands in for QEMU: connected and registered for itself, and restricted.
#[derive(Debug)]
pub struct Guest {
    process: Child,
    answers: std::io::Lines<BufReader<ChildStdout>>,
}

/// The owner with this pid.
pub fn owner(pid: u32) -> Owner {
    Owner { uuid: [0x5a; 16], name: "guest".to_owned(), id: 1, pid }
}

/// The program of the stand-in: does what it reads on its standard input, until that ends.
///
/// # Panics
/// When something fails, as it is part of a test.
pub fn stand_in() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let mut connections = Vec::new();
    for command in std::io::stdin().lines() {
        match command.expect("reading a command").as_str() {
            "connect" => {
                let mut client = LockClient::connect(socket.as_ref()).expect("connecting");
                client.register(&owner(std::process::id()), 0).expect("registering");
                client.restrict(0).expect("restricting");
                connections.push(client);
            }
            "close" => drop(connections.pop()),
            // What it leaves behind may end it before it could say anything.
            "leave" => {
                println!("\ndone");
                drop(connections.pop());
                continue;
            }
            command => connections.push(acquire_for_another(command, socket.as_ref())),
        }
        println!("\ndone");
    }
}

/// Carries out `acquire PID IMAGE`.
fn acquire_for_another(command: &str, socket: &Path) -> LockClient {
    let words: Vec<_> = command.split(' ').collect();
    let ["acquire", pid, image] = words[..] else { panic!("what is {command}?") };
    let mut client = LockClient::connect(socket).expect("connecting");
    client.register(&owner(pid.parse().expect("a pid")), 0).expect("registering");
    client.acquire("", image, 0).expect("acquiring");
    client
}

impl Guest {
    /// An ordinary one.
    pub fn start(daemon: &Daemon) -> Self {
        Self::connected(Command::new(executable()), daemon)
    }

    /// One that does not mind SIGTERM.
    pub fn start_stubborn(daemon: &Daemon) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; exec \"$@\"", "sh"]).arg(executable());
        Self::connected(command, daemon)
    }

    /// One that has pids of its own.
    pub fn start_in_a_pid_namespace(daemon: &Daemon) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(executable());
        Self::connected(command, daemon)
    }

    fn connected(mut command: Command, daemon: &Daemon) -> Self {
        let mut process = command
            .args(["--exact", "guests::stand_in", "--ignored", "--nocapture"])
            .env(SOCKET, daemon.main_socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a stand-in");
        let stdout = process.stdout.take().expect("its output is a pipe");
        let mut guest = Self { process, answers: BufReader::new(stdout).lines() };
        guest.tell("connect");
        guest
    }

    /// Has it do something; see [`stand_in`].
    ///
    /// # Panics
    /// When it has ended.
    pub fn tell(&mut self, command: &str) {
        let stdin = self.process.stdin.as_mut().expect("its input is a pipe");
        writeln!(stdin, "{command}").expect("telling a stand-in");
        let done = self.answers.any(|line| line.expect("a stand-in's answer") == "done");
        assert!(done, "the stand-in has ended");
    }

    /// Its pid, outside its namespace if it has one.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it at once; it stays a zombie until it is asked after.
    pub fn kill(&self) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, Signal::SIGKILL).expect("killing a stand-in");
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("asking after a stand-in").is_none()
    }

    /// The signal that ends it.
    pub fn ending(&mut self) -> Option<i32> {
        eventually("the guest ends", || !self.is_running());
        self.process.wait().expect("asking after a stand-in").signal()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn executable() -> std::path::PathBuf {
    std::env::current_exe().expect("the path of this executable")
}

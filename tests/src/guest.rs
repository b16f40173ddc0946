//! Processes that stand in for QEMU: connected to virtlockd for themselves.
//!
//! A stand-in is the test executable itself, run once more for the one test that [`stand_in`] is
//! the body of. Test crates that need it have that test at `guests::stand_in`, ignored.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, eventually};
use crate::wire::{Answer, LOCK_PROGRAM, LockClient, Owner};

/// Where a stand-in finds the daemon.
const SOCKET: &str = "VIRT_TESTS_GUEST_SOCKET";

/// Set for one that [takes its time](Guest::start_slow).
const SLOW: &str = "VIRT_TESTS_GUEST_SLOW";

/// Time between SIGTERM and its end, shorter than any wait before SIGKILL.
const SLOW_END: Duration = Duration::from_millis(200);

/// A pid that no process has: the kernel's own limit is below.
pub const NOBODY: u32 = 5_000_000;

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
    if std::env::var_os(SLOW).is_some() {
        std::thread::spawn(end_slowly);
    }
    let mut connections = Vec::new();
    for command in std::io::stdin().lines() {
        match command.expect("reading a command").as_str() {
            "call" => connections.iter_mut().for_each(be_refused),
            "close" => drop(connections.pop()),
            // What it leaves behind may end it before it could say anything.
            "leave" => {
                println!("\ndone");
                drop(connections.pop());
                continue;
            }
            "stammer" => connections.iter_mut().for_each(stammer),
            "release" => connections.iter_mut().for_each(be_restricted),
            "babble" => connections.iter_mut().for_each(babble),
            "lend" => lend(connections.last_mut().expect("a connection")),
            command => {
                let words: Vec<_> = command.split(' ').collect();
                connections.push(match words[..] {
                    ["connect", ref images @ ..] => connect(images, socket.as_ref()),
                    ["acquire", pid, image] => acquire_for_another(pid, image, socket.as_ref()),
                    ["give", pid, image] => give_for_another(pid, image, socket.as_ref()),
                    ["pose", pid] => pose(pid, socket.as_ref()),
                    _ => panic!("what is {command}?"),
                });
            }
        }
        println!("\ndone");
    }
}

/// Waits for SIGTERM, which is blocked, and ends this process some time after it.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "the other thread waits for its input")]
fn end_slowly() {
    let signals = SigSet::from(Signal::SIGTERM);
    signals.wait().expect("waiting for a signal");
    std::thread::sleep(SLOW_END);
    std::process::exit(0);
}

/// Connects for this process, as libvirt does between a guest's fork and its exec.
fn connect(images: &[&str], socket: &Path) -> LockClient {
    let mut client = LockClient::connect(socket).expect("connecting");
    client.register(&owner(std::process::id()), 0).expect("registering");
    for image in images {
        client.acquire("", image, 0).expect("acquiring");
    }
    client.restrict(0).expect("restricting");
    client
}

/// Says half of something.
fn stammer(client: &mut LockClient) {
    client.connection().send(&[0, 0]).expect("sending half a length");
}

/// Code 29: a restricted connection may do nothing.
fn be_restricted(client: &mut LockClient) {
    assert_eq!(client.release("", "image", 0).expect_err("a release").code, 29);
}

/// Says what no client of libvirt's says, and hears that the connection has been closed.
fn babble(client: &mut LockClient) {
    let connection = client.connection();
    connection.send(&[0xff; 32]).expect("sending nonsense");
    assert!(matches!(connection.answer(), Answer::Closed), "nonsense was taken");
}

/// Has a child keep a connection open.
fn lend(client: &mut LockClient) {
    let fd = client.connection().as_fd().try_clone_to_owned().expect("another descriptor");
    Command::new("sleep").arg("600").stdin(fd).spawn().map(drop).expect("starting a child");
}

/// Code 39: there is no such procedure. Whoever says so serves this connection.
fn be_refused(client: &mut LockClient) {
    let error = client.connection().call(LOCK_PROGRAM, 99, &[]).expect_err("procedure 99");
    assert_eq!(error.code, 39);
}

fn acquire_for_another(pid: &str, image: &str, socket: &Path) -> LockClient {
    let mut client = LockClient::connect(socket).expect("connecting");
    client.register(&owner(pid.parse().expect("a pid")), 0).expect("registering");
    client.acquire("", image, 0).expect("acquiring");
    client
}

fn give_for_another(pid: &str, image: &str, socket: &Path) -> LockClient {
    let mut client = LockClient::connect(socket).expect("connecting");
    client.register(&owner(pid.parse().expect("a pid")), 0).expect("registering");
    client.release("", image, 0).expect("releasing");
    client
}

/// Connects as what only the process with this pid can be.
fn pose(pid: &str, socket: &Path) -> LockClient {
    let mut client = LockClient::connect(socket).expect("connecting");
    client.register(&owner(pid.parse().expect("a pid")), 0).expect("registering");
    client.restrict(0).expect("restricting");
    client
}

impl Guest {
    /// An ordinary one.
    pub fn start(daemon: &Daemon) -> Self {
        Self::connected(Command::new(executable()), daemon)
    }

    /// One that took leases on these images when it connected to the daemon at this socket.
    pub fn start_with_leases(socket: &Path, images: &[String]) -> Self {
        Self::connected_to(Command::new(executable()), socket, images)
    }

    /// The same as another user, by a copy of this executable that this user can reach.
    ///
    /// # Panics
    /// When there can be no such copy.
    pub fn start_as_user(uid: u32, copy: &Path, socket: &Path, images: &[String]) -> Self {
        let copied =
            Command::new("cp").arg("--remove-destination").arg(executable()).arg(copy).status();
        assert!(copied.expect("cp can be run").success(), "copying the executable");
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]);
        command.arg(copy);
        Self::connected_to(command, socket, images)
    }

    /// One that does not mind SIGTERM.
    pub fn start_stubborn(daemon: &Daemon) -> Self {
        Self::start_stubborn_at(&daemon.main_socket())
    }

    /// The same with the daemon at this socket.
    pub fn start_stubborn_at(socket: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; exec \"$@\"", "sh"]).arg(executable());
        Self::connected_to(command, socket, &[])
    }

    /// One that has something to do after SIGTERM, and then ends without a signal.
    pub fn start_slow(daemon: &Daemon) -> Self {
        let mut command = Command::new("env");
        command.arg("--block-signal=TERM").arg(executable()).env(SLOW, "1");
        Self::connected(command, daemon)
    }

    /// One that has pids of its own.
    pub fn start_in_a_pid_namespace(daemon: &Daemon) -> Self {
        Self::start_in_a_pid_namespace_at(&daemon.main_socket())
    }

    /// The same with the daemon at this socket.
    pub fn start_in_a_pid_namespace_at(socket: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(executable());
        Self::connected_to(command, socket, &[])
    }

    /// One with pids as another has, which [has its own](Self::start_in_a_pid_namespace).
    pub fn start_beside(other: &Self, daemon: &Daemon) -> Self {
        let mut command = Command::new("nsenter");
        let namespace = format!("--pid=/proc/{}/ns/pid", other.outer_pid());
        command.arg(namespace).arg(executable());
        Self::connected(command, daemon)
    }

    /// One in the pid namespace of a daemon.
    pub fn start_in_the_namespace_of(daemon: &Daemon) -> Self {
        Self::connected(Self::entering(daemon, &[]), daemon)
    }

    /// One in a pid namespace below that of a daemon.
    pub fn start_below_the_namespace_of(daemon: &Daemon) -> Self {
        Self::connected(
            Self::entering(daemon, &["unshare", "--pid", "--fork", "--kill-child"]),
            daemon,
        )
    }

    fn entering(daemon: &Daemon, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--pid=/proc/{}/ns/pid", daemon.pid())).args(words).arg(executable());
        command
    }

    fn connected(command: Command, daemon: &Daemon) -> Self {
        Self::connected_to(command, &daemon.main_socket(), &[])
    }

    fn connected_to(mut command: Command, socket: &Path, images: &[String]) -> Self {
        let mut process = command
            .args(["--exact", "guests::stand_in", "--ignored", "--nocapture"])
            .env(SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a stand-in");
        let stdout = process.stdout.take().expect("its output is a pipe");
        let mut guest = Self { process, answers: BufReader::new(stdout).lines() };
        guest.tell(&[&["connect".to_owned()], images].concat().join(" "));
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

    /// Its pid outside the namespace that it was [started in](Self::start_in_a_pid_namespace).
    pub fn outer_pid(&self) -> u32 {
        self.child()
    }

    /// The pid of its only child.
    ///
    /// # Panics
    /// When it has none, or several.
    pub fn child(&self) -> u32 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let threads = threads.expect("reading its threads").map(|thread| {
            let children = thread.expect("a thread").path().join("children");
            std::fs::read_to_string(children).expect("reading its children")
        });
        threads.collect::<String>().trim().parse().expect("it has one child")
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

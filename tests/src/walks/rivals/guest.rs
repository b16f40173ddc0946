//! Guests: real processes that connect for themselves, and may ignore SIGTERM, stand still, and leave
//! their connections to children.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::owed::Owner;
use crate::wire::{LockClient, Owner as Registration};

/// Bits of a set of signals, as `/proc` shows it.
const SIGTERM_BIT: u64 = 1 << (Signal::SIGTERM as u64 - 1);

/// A guest, as the walk sees it.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) owner: Owner,
    /// It does not mind SIGTERM.
    pub(super) is_stubborn: bool,
    /// It stands still.
    pub(super) is_stopped: bool,
    /// It has been asked to end, and nobody is left to see that it does.
    pub(super) is_spared: bool,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    has_ended: Arc<Mutex<bool>>,
}

/// As whom a guest registers, or is registered.
pub(super) fn registration(pid: u32) -> Registration {
    let mut uuid = [0; 16];
    uuid[..4].copy_from_slice(&pid.to_be_bytes());
    Registration { uuid, name: format!("guest{pid}"), id: 1, pid }
}

impl Guest {
    /// Starts one, which is not connected yet; with this pid, if nobody else gets it first.
    pub(super) fn start(number: u64, socket: &Path, is_stubborn: bool, pid: Option<u32>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.args(["rival", if is_stubborn { "stubborn" } else { "meek" }]).arg(socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = spawn(&mut command, pid);
        let owner = Owner { pid: process.id(), process: Some(number) };
        let orders = process.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        let has_ended = reaped(process);
        let mut guest = Self {
            owner,
            is_stubborn,
            is_stopped: false,
            is_spared: false,
            orders,
            answers,
            has_ended,
        };
        assert_eq!(guest.answer(), "ready");
        guest
    }

    /// Has it do something; gives its answer, an empty one if it has ended for that.
    pub(super) fn tell(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("telling a guest");
        self.answer()
    }

    pub(super) fn is_running(&self) -> bool {
        !*self.has_ended.lock().expect("nobody fails holding it")
    }

    /// Whether it was asked to end, and has not minded.
    pub(super) fn is_asked_to_end(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.owner.pid));
        let status = status.unwrap_or_default();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let pending = pending.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        pending.is_some_and(|set| set & SIGTERM_BIT != 0)
    }

    /// Sends it a signal, if it has not ended.
    pub(super) fn signal(&self, signal: Signal) {
        // It is reaped under the lock, and its pid is nobody else's before.
        let has_ended = self.has_ended.lock().expect("nobody fails holding it");
        if !*has_ended {
            kill(Pid::from_raw(self.owner.pid.cast_signed()), signal).expect("a signal");
        }
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a guest's answer");
        line.trim_end().to_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Those who come later have pids that nobody had.
fn spawn(command: &mut Command, pid: Option<u32>) -> Child {
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    let last = fs::read_to_string(LAST_PID).expect("reading the last pid");
    if let Some(pid) = pid {
        fs::write(LAST_PID, (pid - 1).to_string()).expect("choosing a pid");
    }
    let child = command.spawn().expect("starting a guest");
    if pid.is_some() {
        fs::write(LAST_PID, last.trim()).expect("choosing a pid");
    }
    child
}

/// Reaps a process as soon as it has ended: libvirt's daemon waits 3 s for a zombie to go away.
fn reaped(mut process: Child) -> Arc<Mutex<bool>> {
    let has_ended = Arc::new(Mutex::new(false));
    let told = Arc::clone(&has_ended);
    std::thread::spawn(move || {
        let pid = Pid::from_raw(process.id().cast_signed());
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags).is_err() {}
        let mut has_ended = told.lock().expect("nobody fails holding it");
        process.wait().expect("reaping a guest");
        *has_ended = true;
    });
    has_ended
}

/// The life of a guest.
///
/// # Panics
/// When it is told what it cannot do.
pub(crate) fn live(kind: &str, socket: &Path) {
    if kind == "stubborn" {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.thread_block().expect("blocking a signal");
    }
    println!("ready");
    let mut connections = Vec::new();
    for order in std::io::stdin().lines() {
        match order.expect("an order").as_str() {
            "connect" => {
                let mut client = LockClient::connect(socket).expect("connecting");
                client.register(&registration(std::process::id()), 0).expect("registering");
                client.restrict(0).expect("restricting");
                connections.push(client);
                println!("done");
            }
            // It may be the last that it does.
            "leave" => {
                drop(connections.pop());
                println!("done");
            }
            "lend" => {
                let client = connections.last_mut().expect("a connection");
                println!("{}", lend(client));
            }
            order => panic!("what is {order}?"),
        }
    }
}

/// Has a child keep a connection open; gives its pid.
fn lend(client: &mut LockClient) -> u32 {
    let fd = client.connection().as_fd().try_clone_to_owned().expect("another descriptor");
    let child = Command::new("sleep").arg("3600").stdin(fd).stdout(Stdio::null()).spawn();
    child.expect("starting a child").id()
}

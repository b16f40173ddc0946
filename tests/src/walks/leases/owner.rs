//! A guest that owns leases: a process that is connected to virtlockd for itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::poll::{PollFd, PollFlags, poll};

use crate::wire::{LockClient, Owner as Registration};

/// How often it is looked whether a guest is to be given up, in milliseconds.
const LOOK_MS: u8 = 20;

/// Its process, as the walk sees it.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) number: u64,
    process: Child,
    answers: BufReader<ChildStdout>,
    /// virtlockd has its connection, and ends it when that is closed.
    pub(super) is_connected: bool,
}

/// As whom a guest registers, or is registered.
pub(super) fn registration(number: u64, pid: u32) -> Registration {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&number.to_be_bytes());
    Registration { uuid, name: format!("guest{number}"), id: 1, pid }
}

impl Owner {
    /// Starts one and waits until it is registered.
    pub(super) fn start(number: u64, socket: &Path) -> Self {
        let mut owner = Self::spawn(number, socket);
        assert!(owner.is_ready(), "the guest could not register");
        owner
    }

    /// Starts one and waits until it is registered; `None` when it cannot be, or is given up.
    pub(super) fn try_start(
        number: u64,
        socket: &Path,
        is_given_up: impl Fn() -> bool,
    ) -> Option<Self> {
        let mut owner = Self::spawn(number, socket);
        loop {
            let mut fds = [PollFd::new(owner.answers.get_ref().as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, LOOK_MS).expect("waiting for a guest") > 0 {
                return owner.is_ready().then_some(owner);
            }
            if is_given_up() {
                return None;
            }
        }
    }

    fn spawn(number: u64, socket: &Path) -> Self {
        let mut process =
            Command::new(std::env::current_exe().expect("the path of this executable"))
                .args(["lease-owner", &number.to_string()])
                .arg(socket)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("starting a guest");
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Self { number, process, answers, is_connected: true }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("asking after a guest").is_none()
    }

    /// Has it close its connection, which may be the last that it does.
    pub(super) fn leave(&mut self) {
        let stdin = self.process.stdin.as_mut().expect("its input is a pipe");
        writeln!(stdin, "leave").expect("telling a guest");
        self.is_connected = false;
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("ending a guest");
    }

    /// Waits until it says whether it is registered.
    fn is_ready(&mut self) -> bool {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a guest's answer");
        line == "ready\n"
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The life of such a guest: its number, and virtlockd's socket.
///
/// # Panics
/// When it cannot register.
pub(crate) fn live(number: &str, socket: &Path) {
    let number = number.parse().expect("a guest's number");
    let mut client = LockClient::connect(socket).expect("connecting");
    client.register(&registration(number, std::process::id()), 0).expect("registering");
    client.restrict(0).expect("restricting");
    println!("ready");
    let mut client = Some(client);
    let mut orders = std::io::stdin().lock();
    let mut order = String::new();
    while orders.read_line(&mut order).is_ok_and(|len| len > 0) {
        drop(client.take());
        order.clear();
    }
    // Whoever has started it is gone.
    drop(orders.read_to_end(&mut Vec::new()));
}

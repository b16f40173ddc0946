//! Pairs of hosts with a file system of `leasing_fs`, whose first one is cut off now and then.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use tests::blocks::{Block, SECOND_HOST};
use tests::guest::owner;
use tests::harness::{Daemon, eventually};
use tests::load::lease_range;
use tests::wire::LockClient;

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_leasing_fs");

/// Lease time of the server, the shortest with which guests can be ended.
pub(crate) const LEASE_MS: u64 = 7000;

/// Makes the file systems: `$pairs` of them, for a server with a lease time of `$lease_ms`.
const MOUNT: &str = r#"
for n in $(seq 0 $((pairs - 1))); do
    d=$1/files/pair$n; mkdir -p $d/backing $d/first $d/second; : > $d/backing/image
    setpriv --pdeathsig KILL "$server" $d/backing $d/first $d/second $d/cut $lease_ms </dev/null >/dev/null &
done
for n in $(seq 0 $((pairs - 1))); do
    until mountpoint -q $1/files/pair$n/second; do sleep 0.01; done
done
"#;

/// A pair of hosts. The daemon is the first one's; the second is the test itself.
pub(crate) struct Pair {
    directory: PathBuf,
    /// The same, as the daemon's mount namespace has it.
    inside: PathBuf,
}

/// Guest of the first host, with its lease.
pub(crate) struct Guest {
    pub(crate) process: Child,
    _client: LockClient,
}

impl Pair {
    pub(crate) fn of(daemon: &Daemon, number: usize) -> Self {
        let directory = daemon.file(&format!("pair{number}"));
        let inside = daemon.inside(directory.to_str().expect("text"));
        Self { directory, inside }
    }

    pub(crate) fn image(&self) -> String {
        self.directory.join("first/image").to_str().expect("a path in UTF-8").to_owned()
    }

    pub(crate) fn trace(&self) -> PathBuf {
        self.directory.join("trace")
    }

    /// Starts a guest that has a lease and writes, and takes no notice of `SIGTERM`.
    pub(crate) fn start_guest(&self, daemon: &Daemon) -> Guest {
        let mut command = Command::new("setpriv");
        let words = ["--pdeathsig", "KILL", "env", "--ignore-signal=TERM", SERVER, "guest"];
        command.args(words).arg(self.trace());
        let process = command.spawn().expect("starting a guest");
        let mut client = daemon.lock_client();
        client.register(&owner(process.id()), 0).expect("registering");
        eventually("the lease is free", || client.acquire("", &self.image(), 0).is_ok());
        Guest { process, _client: client }
    }

    /// Cuts the first host off.
    pub(crate) fn cut(&self) {
        fs::write(self.directory.join("cut"), "").expect("cutting");
    }

    pub(crate) fn heal(&self) {
        fs::remove_file(self.directory.join("cut")).expect("healing");
    }

    /// Takes the lock for the second host as soon as it can be had, and writes the first block there.
    /// Returns the lock, and when the lease of the first host has run out.
    pub(crate) fn take_over(&self) -> (File, u64) {
        let image = self.inside.join("second/image");
        let lock = File::options().read(true).write(true).open(image).expect("opening");
        let end = Instant::now() + Duration::from_millis(3 * LEASE_MS);
        while !try_lock(&lock) {
            assert!(Instant::now() < end, "the server has not given the lock away");
            thread::sleep(Duration::from_millis(1));
        }
        let mut trace = File::options().append(true).open(self.trace()).expect("a trace");
        trace.write_all(&Block::now(SECOND_HOST).bytes()).expect("writing");
        let heard =
            fs::read_to_string(self.directory.join("cut.heard")).expect("when it was heard");
        (lock, heard.parse::<u64>().expect("a time") + LEASE_MS)
    }
}

/// Shell commands that make the file systems of this many pairs.
pub(crate) fn mounted(pairs: usize) -> String {
    format!("server='{SERVER}' pairs={pairs} lease_ms={LEASE_MS}\n{MOUNT}")
}

fn try_lock(file: &File) -> bool {
    fcntl(file, FcntlArg::F_OFD_SETLK(&lease_range())).is_ok()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// What `virtlockctl list` prints.
pub(crate) fn listed(daemon: &Daemon) -> String {
    let program = daemon.subject().program.tool();
    let socket = daemon.admin_socket();
    let uri = format!("virtlockd:///system?socket={}", socket.display());
    let output = Command::new(program).args(["--connect", &uri, "list"]).output().expect("asking");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Number of the processes that the daemon has started and that ask servers.
pub(crate) fn probers(daemon: &Daemon) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_child = status.lines().any(|line| {
            line.strip_prefix("PPid:").is_some_and(|pid| pid.trim() == daemon.pid().to_string())
        });
        count += usize::from(is_child && line.ends_with(b"--probe-mounts\0"));
    }
    count
}

//! Leases of virtlockd: what one costs, and processes that hold many.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tempfile::TempDir;
use tests::harness::{Daemon, Program};
use tests::wire::{Header, LOCK_PROGRAM, LockClient, Owner, Writer};

use crate::guest::scratch;
use crate::table::{Bench, Contender, Row, Wanted};
use crate::usage::{as_f64, daemon_cpu, micros, thread_cpu};

/// The first argument that turns this program into a holder of many leases.
pub(crate) const HOLD: &str = "--hold-leases";

/// More connections than any measurement makes.
const CONFIG: &str = "max_clients = 2000\n";

/// Procedure number (libvirt's value, on the wire).
const RELEASE: i32 = 7;

/// Leases of each connection.
pub(crate) const LEASES_EACH: usize = 10;

/// What the kernel alone takes for a lease: open, lock, unlock, close.
const KERNEL: &str = "kernel";

const NONE_HELD: &str = "CPU with 0 held, us per pair";

/// Measures single leases beside many.
pub(crate) fn run(bench: &mut Bench) {
    let pairs = bench.scaled(3_000);
    let flat = &[Wanted::Max(25.0), Wanted::MaxTimesRow(1.1, NONE_HELD)][..];
    for (row, held) in [
        (Row(NONE_HELD, &[Wanted::Max(25.0)]), 0),
        (Row("CPU with 1,000 held, us per pair", flat), 1_000),
        (Row("CPU with 10,000 held, us per pair", flat), 10_000),
    ] {
        let title = format!("leases, ACQUIRE and RELEASE beside {held} held");
        let peers = [Contender::Peer(KERNEL)];
        bench.measure(&title, Program::Virtlockd, &[row], &peers, |contender| {
            vec![match contender {
                Contender::Peer(_) => kernel_pairs(pairs),
                Contender::Theirs | Contender::Ours => daemon_pairs(contender, held, pairs),
            }]
        });
    }
}

/// Microseconds of the daemon per pair.
fn daemon_pairs(contender: Contender, held: usize, pairs: usize) -> f64 {
    let (daemon, images) = start(contender, held + 1);
    let guest = Holder::idle();
    let mut client = guest.client(&daemon);
    let (one, others) = images.paths.split_last().expect("at least one image");
    for image in others {
        client.acquire("", image, 0).expect("an unheld lease");
    }
    let cpu = daemon_cpu(&daemon);
    for _ in 0..pairs {
        client.acquire("", one, 0).expect("an unheld lease");
        client.release("", one, 0).expect("our own lease");
    }
    let cpu = daemon_cpu(&daemon) - cpu;
    assert!(images.are_leased(others.len()) && !is_leased(&open(Path::new(one))), "wrong leases");
    micros(cpu) / as_f64(pairs)
}

fn kernel_pairs(pairs: usize) -> f64 {
    let images = Images::new(1);
    let path = Path::new(&images.paths[0]);
    let cpu = thread_cpu();
    for _ in 0..pairs {
        let file = open(path);
        for kind in [libc::F_WRLCK, libc::F_UNLCK] {
            fcntl(&file, FcntlArg::F_OFD_SETLK(&first_byte(kind))).expect("nobody else locks it");
        }
    }
    micros(thread_cpu() - cpu) / as_f64(pairs)
}

/// Runs as [`Holder`]'s process: its connections with all their leases, until it is killed.
pub(crate) fn hold(arguments: &[String]) {
    let [socket, directory, first, count] = arguments else { panic!("it is for us to start") };
    let number = |text: &String| -> usize { text.parse().expect("a number of connections") };
    let connect = |connection| {
        let mut client = LockClient::connect(Path::new(socket)).expect("connecting");
        client.register(&owner(std::process::id()), 0).expect("registering");
        for image in connection * LEASES_EACH..(connection + 1) * LEASES_EACH {
            client.acquire("", &image_path(Path::new(directory), image), 0).expect("a free lease");
        }
        client
    };
    let connections = number(first)..number(first) + number(count);
    let _clients: Vec<LockClient> = connections.map(connect).collect();
    println!("held");
    // Returns when the parent is gone.
    drop(std::io::stdin().read(&mut [0]));
}

/// A process with leases; libvirt's daemon kills a guest whose connection ends, so it is not us.
#[derive(Debug)]
pub(crate) struct Holder(Child);

impl Holder {
    /// One that we call for.
    pub(crate) fn idle() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("a stand-in guest"))
    }

    /// A client whose leases are for this process.
    pub(crate) fn client(&self, daemon: &Daemon) -> LockClient {
        let mut client = daemon.lock_client();
        client.register(&owner(self.0.id()), 0).expect("registering");
        client
    }

    /// One that makes `connections` and takes the leases of each.
    pub(crate) fn start(daemon: &Daemon, images: &Images, connections: Range<usize>) -> Self {
        let program = std::env::current_exe().expect("the name of this program");
        let mut command = Command::new(program);
        command.arg(HOLD).arg(daemon.main_socket()).arg(images.directory.path());
        command.args([connections.start, connections.len()].map(|number| number.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("starting a holder of leases"))
    }

    /// Returns when all its leases are held.
    pub(crate) fn wait_until_held(&mut self) {
        let stdout = self.0.stdout.as_mut().expect("it is piped");
        stdout.read_exact(&mut [0; 4]).expect("the holder holds its leases");
    }

    /// Ends it, and does not wait for its end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("killing a holder of leases");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
        self.0.wait().expect("waiting for a holder of leases");
    }
}

/// Files to be leased.
#[derive(Debug)]
pub(crate) struct Images {
    paths: Vec<String>,
    directory: TempDir,
}

impl Images {
    fn new(count: usize) -> Self {
        let directory = scratch();
        let paths = image_paths(directory.path(), count);
        for path in &paths {
            fs::write(path, []).expect("making an image");
        }
        Self { paths, directory }
    }

    /// Their names.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Whether each of the first `count` is leased.
    pub(crate) fn are_leased(&self, count: usize) -> bool {
        self.paths[..count].iter().all(|path| is_leased(&open(Path::new(path))))
    }
}

/// A RELEASE as bytes.
pub(crate) fn release_call(name: &str) -> Vec<u8> {
    let arguments = Writer::new().string("").string(name).u32(0);
    Header::call(LOCK_PROGRAM, RELEASE).message(&arguments.into_bytes())
}

/// A lock daemon, and images to lease from it.
pub(crate) fn start(contender: Contender, images: usize) -> (Daemon, Images) {
    let setup = contender.subject(Program::Virtlockd).setup();
    (setup.config(CONFIG).start(), Images::new(images))
}

fn image_paths(directory: &Path, count: usize) -> Vec<String> {
    (0..count).map(|number| image_path(directory, number)).collect()
}

fn image_path(directory: &Path, number: usize) -> String {
    directory.join(format!("image{number}")).display().to_string()
}

/// Whom leases are for.
pub(crate) fn owner(pid: u32) -> Owner {
    Owner { uuid: [0xcd; 16], name: "guest".to_owned(), id: 1, pid }
}

/// An image, to look for its lease.
pub(crate) fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("opening an image")
}

/// Whether somebody holds its lease.
pub(crate) fn is_leased(file: &File) -> bool {
    let mut lock = first_byte(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).expect("asking for a lock");
    libc::c_int::from(lock.l_type) != libc::F_UNLCK
}

fn first_byte(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind.try_into().expect("a lock's kind is small"),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

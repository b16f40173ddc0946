//! Leases of virtlockd: what one costs, and a thousand connections with ten each.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

/// Procedure number (libvirt's value, on the wire).
const RELEASE: i32 = 7;

const CONNECTIONS: usize = 1_000;
const LEASES_EACH: usize = 10;

/// Calls of one connection: REGISTER and the ACQUIREs.
const CALLS_EACH: usize = LEASES_EACH + 1;

/// What the kernel alone takes for a lease: open, lock, unlock, close.
const KERNEL: &str = "kernel";

const NONE_HELD: &str = "CPU with 0 held, us per pair";

/// Measures single leases and many.
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
    let rows = [
        Row("set-up, daemon's CPU, us per call", &[Wanted::Max(25.0)]),
        Row("released on disconnect after, ms", &[Wanted::Max(120.0)]),
    ];
    let title = "leases, 1,000 connections with 10 each";
    bench.measure(title, Program::Virtlockd, &rows, &[], many_connections);
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

fn many_connections(contender: Contender) -> Vec<f64> {
    let (daemon, images) = start(contender, CONNECTIONS * LEASES_EACH);
    let files: Vec<File> = images.paths.iter().map(|path| open(Path::new(path))).collect();
    let cpu = daemon_cpu(&daemon);
    let holder = Holder::start(&daemon.main_socket(), images.directory.path());
    let cpu = daemon_cpu(&daemon) - cpu;
    assert!(files.iter().all(is_leased), "a lease is not held");
    let started = Instant::now();
    drop(holder);
    for file in &files {
        while is_leased(file) {
            assert!(started.elapsed() < Duration::from_secs(60), "a lease is never released");
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    let released = started.elapsed();
    vec![micros(cpu) / as_f64(CONNECTIONS * CALLS_EACH), released.as_secs_f64() * 1e3]
}

/// Runs as [`Holder`]'s process: all connections with all leases, until it is killed.
pub(crate) fn hold(arguments: &[String]) {
    let [socket, directory] = arguments else { panic!("a socket and a directory are needed") };
    let images = image_paths(Path::new(directory), CONNECTIONS * LEASES_EACH);
    let connect = |images: &[String]| {
        let mut client = LockClient::connect(Path::new(socket)).expect("connecting");
        client.register(&owner(std::process::id()), 0).expect("registering");
        for image in images {
            client.acquire("", image, 0).expect("an unheld lease");
        }
        client
    };
    let _clients: Vec<LockClient> = images.chunks(LEASES_EACH).map(connect).collect();
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

    /// Returns when all leases are held.
    fn start(socket: &Path, directory: &Path) -> Self {
        let program = std::env::current_exe().expect("the name of this program");
        let mut command = Command::new(program);
        command.arg(HOLD).arg(socket).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starting a holder of leases");
        let said = &mut [0; 4];
        let stdout = child.stdout.as_mut().expect("it is piped");
        stdout.read_exact(said).expect("the holder holds its leases");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().expect("killing a holder of leases");
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
    let config = format!("max_clients = {}\n", CONNECTIONS + 10);
    (setup.config(&config).start(), Images::new(images))
}

fn image_paths(directory: &Path, count: usize) -> Vec<String> {
    let path = |number| -> PathBuf { directory.join(format!("image{number}")) };
    (0..count).map(|number| path(number).display().to_string()).collect()
}

fn owner(pid: u32) -> Owner {
    Owner { uuid: [0xcd; 16], name: "guest".to_owned(), id: 1, pid }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("opening an image")
}

fn is_leased(file: &File) -> bool {
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

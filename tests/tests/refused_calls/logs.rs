//! A log's life.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tests::harness::{
    Daemon, Host, Program, Subject, Whose, backup, eventually, guest_writes, inode,
};
use tests::supervisor::Service;
use tests::wire::Position;

use super::cases::{Refused, alone, beside_others};

/// Small, so that every life has rotations.
const SIZE_BYTES_MAX: usize = 1000;
const BACKUPS_MAX: u32 = 32;
const CONFIG: &str = "max_size = 1000\nmax_backups = 32\n";

/// Bytes at the end of a file where it is looked for ends of lines.
const WINDOW_BYTES: usize = 80;

/// The beginning of a line.
const PROMPT: &str = "password: ";

/// Lines that are written at a time: more than two files full.
const LINES: usize = 50;

tests::ours! { Virtlogd: without_permission, on_an_older_kernel }

fn without_permission(_: Subject) {
    Refused::each(Program::Virtlogd, Errno::EPERM).for_each(|refused| live(&refused));
}

fn on_an_older_kernel(_: Subject) {
    Refused::each(Program::Virtlogd, Errno::ENOSYS).for_each(|refused| live(&refused));
}

fn live(refused: &Refused) {
    let turn = beside_others();
    let setup = refused.setup().config(CONFIG);
    let Some(mut daemon) = refused.start(setup) else { return };
    let path = daemon.file("a.log");
    let mut log = Log::new(&path, daemon.log_client().open(&path).unwrap().pipe);
    log.write_lines();
    log.expect_stored();
    log.expect_cut_behind_lines();
    log.write_in_two_parts();
    answer(&daemon, &mut log);
    upgrade(&mut daemon, &mut log);
    drop(log);
    eventually("the log is closed", || daemon.log_client().position(&path).is_err());
    let exit = daemon.stop();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    expect_no_failure(&exit.stderr);
    drop(turn);
    outlive(refused);
}

/// Calls about a log.
fn answer(daemon: &Daemon, log: &mut Log) {
    let mut client = daemon.log_client();
    log.write("login: ");
    let position = client.position(&log.path).unwrap();
    assert_eq!(position.inode, inode(&log.path));
    log.expect_stored();
    let start = Position { offset: 0, ..position };
    let read = client.read(&log.path, start, 10_000).unwrap();
    assert_eq!(read, fs::read(&log.path).unwrap());
    // More than is read at a time.
    client.open_with(&[b'a'; 100_000], 0).unwrap_err();
    client.append(&log.path, "appended\n").unwrap();
    log.text.extend(b"appended\n");
    log.expect_stored();
}

fn upgrade(daemon: &mut Daemon, log: &mut Log) {
    let theirs = Subject { whose: Whose::Theirs, program: Program::Virtlogd };
    let hops: &[_] = match theirs.executable() {
        Ok(_) => &[Whose::Ours, Whose::Theirs, Whose::Ours],
        Err(_) => &[Whose::Ours],
    };
    for whose in hops {
        daemon.change_to(*whose);
        log.write_lines();
        log.expect_stored();
    }
}

/// A process that is killed, and the next one that gets its fds from the store.
fn outlive(refused: &Refused) {
    let _turn = alone();
    let host = Host::new();
    fs::create_dir_all(host.path("etc/libvirt")).unwrap();
    fs::write(host.path("etc/libvirt/virtlogd.conf"), CONFIG).unwrap();
    let mut service = Service::start_from(refused.origin(), refused.program, &host, 100);
    let path = host.file("a.log");
    let mut log = Log::new(&path, service.daemon().log_client().open(&path).unwrap().pipe);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        log.write_lines();
        log.expect_stored();
        service.restart(signal);
        expect_no_failure(&service.daemon().stderr());
    }
    log.write_lines();
    log.expect_stored();
}

#[track_caller]
pub(crate) fn expect_no_failure(said: &str) {
    // libvirt's daemon says it with the names of its functions, also where it refuses a client.
    let is_failure = |line: &str| line.contains(": error :") && !line.contains(": error : vir");
    assert!(!said.lines().any(is_failure), "{said}");
}

/// What a guest has written into it.
pub(crate) struct Log {
    path: PathBuf,
    pipe: File,
    text: Vec<u8>,
    line: usize,
}

impl Log {
    pub(crate) fn new(path: &Path, pipe: File) -> Self {
        Self { path: path.to_owned(), pipe, text: Vec::new(), line: 0 }
    }

    pub(crate) fn write(&mut self, text: &str) {
        guest_writes(&self.pipe, text);
        self.text.extend(text.as_bytes());
    }

    pub(crate) fn write_lines(&mut self) {
        for _ in 0..LINES {
            self.line += 1;
            self.write(&format!("line number {} of this log, a short one\n", self.line));
        }
    }

    #[track_caller]
    pub(crate) fn expect_stored(&self) {
        eventually("everything is stored", || self.parts().concat() == self.text);
    }

    /// A line that comes in two parts where a file is nearly full.
    #[track_caller]
    fn write_in_two_parts(&mut self) {
        while !(PROMPT.len()..WINDOW_BYTES / 2).contains(&self.room()) {
            self.write("a short line\n");
            self.expect_stored();
        }
        self.write(PROMPT);
        self.expect_stored();
        self.write("secret\n");
        self.expect_stored();
    }

    /// Bytes for which the file has room.
    fn room(&self) -> usize {
        SIZE_BYTES_MAX.saturating_sub(fs::read(&self.path).unwrap().len())
    }

    /// No line is cut in two.
    #[track_caller]
    fn expect_cut_behind_lines(&self) {
        for part in self.parts() {
            assert!(part.len() <= SIZE_BYTES_MAX && part.ends_with(b"\n"), "{part:?}");
        }
    }

    /// The oldest one first.
    fn parts(&self) -> Vec<Vec<u8>> {
        let older =
            (0..BACKUPS_MAX).rev().filter_map(|index| fs::read(backup(&self.path, index)).ok());
        older.chain(fs::read(&self.path)).collect()
    }
}

//! Guests that keep their pipes locked: whoever has an end of a pipe can do that, with a `splice(2)` from
//! something on which nothing comes. Whatever is done to such a pipe waits in the kernel. libvirt's daemon
//! serves nobody meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{Daemon, PipeLock, Subject, eventually, eventually_within, expect_file};

tests::ours! { Virtlogd:
    a_locked_pipe_costs_its_own_guest_only,
    a_locked_pipe_with_a_byte_inside_costs_its_own_guest_only,
    a_hundred_locked_pipes_at_once_cost_their_guests_only,
    a_guest_that_locks_its_pipe_again_and_again_costs_itself_only,
    pipes_that_are_locked_at_an_upgrade_are_adopted,
    a_guest_that_holds_up_a_thread_is_named_by_a_refused_upgrade,
    a_guest_that_holds_up_a_thread_is_named_at_the_stop,
    a_guest_that_is_ended_leaves_nothing_behind,
    a_position_is_behind_all_that_a_suspect_has_written,
}

/// How long the line of another guest may take.
const BOUND: Duration = Duration::from_secs(2);

/// Threads for guests that hold them up, and what else the daemon has.
const THREADS_MAX: usize = 128 + 16;

/// Fds of pipes that are kept for jobs which run beside others.
const SPARE_FDS_MAX: usize = 12;

/// A guest that keeps its pipe locked until it is let go.
struct Holder {
    path: PathBuf,
    pipe: File,
    lock: PipeLock,
}

impl Holder {
    fn begin((path, pipe): (PathBuf, File)) -> Self {
        let lock = PipeLock::begin(&pipe);
        Self { path, pipe, lock }
    }

    /// Lets go of the lock, with these bytes.
    fn let_go(self, bytes: &str) -> (PathBuf, File) {
        self.lock.let_go(bytes);
        (self.path, self.pipe)
    }
}

/// A guest whose lines are to be in its log soon.
struct Other {
    path: PathBuf,
    pipe: File,
    lines: usize,
}

impl Other {
    fn open(daemon: &Daemon, name: &str) -> Self {
        let path = daemon.file(name);
        let pipe = daemon.log_client().open(&path).unwrap().pipe;
        Self { path, pipe, lines: 0 }
    }

    /// Its lines come into the log, calls are answered, and other logs can be opened.
    #[track_caller]
    fn expect_served(&mut self, daemon: &Daemon) {
        for _ in 0..20 {
            self.pipe.write_all(b"line\n").unwrap();
            self.lines += 1;
            let (began, text) = (Instant::now(), "line\n".repeat(self.lines));
            let is_there = || fs::read(&self.path).unwrap() == text.as_bytes();
            assert!(eventually_within(BOUND, is_there), "{}", daemon.stderr());
            let position = daemon.log_client().position(&self.path).unwrap();
            assert_eq!(position.offset, text.len() as u64);
            assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        }
        let name = format!("new.{}", self.lines);
        drop(Self::open(daemon, &name));
        drop(daemon.connect_admin());
    }
}

fn open(daemon: &Daemon, name: &str) -> (PathBuf, File) {
    let path = daemon.file(name);
    let pipe = daemon.log_client().open(&path).unwrap().pipe;
    (path, pipe)
}

/// Guests that lock their pipes while the daemon is stopped, so that it finds all of them at once, with
/// `inside` written before.
fn lock_at_once(daemon: &Daemon, count: usize, inside: &str) -> Vec<Holder> {
    let pipes: Vec<_> = (0..count).map(|number| open(daemon, &format!("held.{number}"))).collect();
    daemon.signal(Signal::SIGSTOP);
    eventually("all threads have stopped", || {
        daemon.thread_states().iter().all(|state| *state == 'T')
    });
    let holders = pipes.into_iter().map(|(path, mut pipe)| {
        pipe.write_all(inside.as_bytes()).unwrap();
        Holder::begin((path, pipe))
    });
    let holders = holders.collect();
    daemon.signal(Signal::SIGCONT);
    holders
}

#[track_caller]
fn expect_bounded_threads(daemon: &Daemon) {
    let threads: usize = daemon.status_field("Threads").parse().unwrap();
    assert!(threads <= THREADS_MAX, "{threads} threads");
}

#[track_caller]
fn expect_all_served_after(holders: Vec<Holder>, inside: &str) {
    let freed: Vec<_> = holders.into_iter().map(|holder| holder.let_go("last words\n")).collect();
    for (path, pipe) in freed {
        expect_file(&path, format!("{inside}last words\n"));
        (&pipe).write_all(b"and more\n").unwrap();
        expect_file(&path, format!("{inside}last words\nand more\n"));
    }
}

fn costs_its_own_guest_only(subject: Subject, count: usize, inside: &str) {
    let daemon = subject.setup().confined().start();
    let mut other = Other::open(&daemon, "other");
    let holders = lock_at_once(&daemon, count, inside);
    other.expect_served(&daemon);
    other.expect_served(&daemon);
    expect_bounded_threads(&daemon);
    expect_all_served_after(holders, inside);
    other.expect_served(&daemon);
    eventually("threads end", || daemon.status_field("Threads").parse::<usize>().unwrap() < 8);
}

fn a_locked_pipe_costs_its_own_guest_only(subject: Subject) {
    costs_its_own_guest_only(subject, 1, "");
}

fn a_locked_pipe_with_a_byte_inside_costs_its_own_guest_only(subject: Subject) {
    costs_its_own_guest_only(subject, 1, "x");
}

fn a_hundred_locked_pipes_at_once_cost_their_guests_only(subject: Subject) {
    costs_its_own_guest_only(subject, 100, "x");
}

fn a_guest_that_locks_its_pipe_again_and_again_costs_itself_only(subject: Subject) {
    let daemon = subject.setup().confined().start();
    let mut other = Other::open(&daemon, "other");
    let (path, mut pipe) = open(&daemon, "held");
    let mut expected = String::new();
    for round in 0..10 {
        pipe.write_all(b"x").unwrap();
        let holder = Holder::begin((path.clone(), pipe));
        other.expect_served(&daemon);
        let line = format!("round {round}\n");
        (_, pipe) = holder.let_go(&line);
        expected.push('x');
        expected.push_str(&line);
    }
    expect_file(&path, expected);
    expect_bounded_threads(&daemon);
}

fn pipes_that_are_locked_at_an_upgrade_are_adopted(subject: Subject) {
    let mut daemon = subject.setup().confined().replaceable().start();
    let mut other = Other::open(&daemon, "other");
    // An empty pipe is not touched.
    let held = (0..10).map(|number| Holder::begin(open(&daemon, &format!("held.{number}"))));
    let holders: Vec<_> = held.collect();
    daemon.change_to(subject.whose);
    other.expect_served(&daemon);
    expect_all_served_after(holders, "");
}

fn a_guest_that_holds_up_a_thread_is_named_by_a_refused_upgrade(subject: Subject) {
    let mut daemon = subject.setup().confined().replaceable().start();
    let mut other = Other::open(&daemon, "other");
    let holders = lock_at_once(&daemon, 1, "x");
    other.expect_served(&daemon);
    daemon.signal(Signal::SIGUSR1);
    let mut status = String::new();
    while !status.contains("last upgrade") {
        status = daemon.wait_for_notification("the upgrade is refused", "STATUS=");
    }
    for words in ["held.0", "guest 'guest'", "keeps its pipe locked"] {
        assert!(status.contains(words), "{status}: {}", daemon.stderr());
    }
    other.expect_served(&daemon);
    expect_all_served_after(holders, "x");
    daemon.upgrade();
    other.expect_served(&daemon);
}

fn a_guest_that_holds_up_a_thread_is_named_at_the_stop(subject: Subject) {
    let mut daemon = subject.setup().confined().start();
    let mut other = Other::open(&daemon, "other");
    let holders = lock_at_once(&daemon, 1, "x");
    other.expect_served(&daemon);
    other.pipe.write_all(b"until the end\n").unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.expect_said("keeps its pipe locked");
    expect_file(&other.path, format!("{}until the end\n", "line\n".repeat(other.lines)));
    // The process cannot end before.
    drop(holders.into_iter().map(|holder| holder.let_go("")).collect::<Vec<_>>());
    let exit = daemon.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

fn a_guest_that_is_ended_leaves_nothing_behind(subject: Subject) {
    let daemon = subject.setup().confined().start();
    let mut other = Other::open(&daemon, "other");
    let before = daemon.fd_count();
    let holders = lock_at_once(&daemon, 20, "x");
    other.expect_served(&daemon);
    for holder in holders {
        let (path, pipe) = holder.let_go("\n");
        drop(pipe);
        expect_ended(&daemon, &path);
    }
    let is_closed = || daemon.fd_count() <= before + SPARE_FDS_MAX;
    assert!(eventually_within(BOUND, is_closed), "{before}: {:?}", daemon.descriptors());
}

/// Also when that does not fit into one pipe of the daemon's.
fn a_position_is_behind_all_that_a_suspect_has_written(subject: Subject) {
    let daemon = subject.setup().confined().config("max_size = 0").start();
    let mut other = Other::open(&daemon, "other");
    let holders = lock_at_once(&daemon, 1, "x");
    other.expect_served(&daemon);
    let freed = holders.into_iter().map(|holder| holder.let_go("\n"));
    let [(path, mut pipe)] = <[_; 1]>::try_from(freed.collect::<Vec<_>>()).unwrap();
    let mut client = daemon.log_client();
    let mut written = 2;
    for size in (0..60).map(|round| 20_000 + round * 3_000) {
        pipe.write_all(&vec![b'y'; size]).unwrap();
        written += size as u64;
        assert_eq!(client.position(&path).unwrap().offset, written);
    }
}

#[track_caller]
fn expect_ended(daemon: &Daemon, path: &Path) {
    eventually("the log has ended", || daemon.log_client().position(path).is_err());
    expect_file(path, "x\n");
}

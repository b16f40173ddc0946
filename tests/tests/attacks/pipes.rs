//! Guests that are in the hands of somebody else, with nothing but their pipes.

use std::fs::File;
use std::io::{IoSlice, Write};

use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, vmsplice};
use tests::harness::{Daemon, Host, PipeLock, Subject, eventually};
use tests::supervisor::Supervisor;

use crate::bystanders::{expect_unharmed, start, start_with};

tests::ours! { Virtlogd:
    pages_that_change_under_way,
    sizes_and_packets_at_once,
    pipes_that_are_locked_again_and_again,
    pipes_that_are_locked_beside_an_fd_store,
    floods_of_single_bytes,
    logs_that_come_and_go,
    more_output_than_memory,
}

const GUESTS: usize = 4;

/// Fds that the store takes.
const STORE_FDS: usize = 512;

/// How long one attacks.
const PERIOD: Duration = Duration::from_secs(2);

/// A guest gives its own memory away and changes it afterwards: that may change its own lines.
fn pages_that_change_under_way(subject: Subject) {
    let mut daemon = start(subject);
    attack_with(&mut daemon, |pipe| {
        let mut memory = vec![b'x'; 65_536];
        let begun = Instant::now();
        while begun.elapsed() < PERIOD {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
            vmsplice(&pipe, &[IoSlice::new(&memory)], flags).ok();
            let next = memory[0].wrapping_add(1);
            memory.fill(next);
        }
    });
}

fn sizes_and_packets_at_once(subject: Subject) {
    let mut daemon = start(subject);
    attack_with(&mut daemon, |mut pipe| {
        let begun = Instant::now();
        for number in 0.. {
            let flags = if number % 2 == 0 { OFlag::O_DIRECT } else { OFlag::empty() };
            fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK | flags)).unwrap();
            let sizes = [4096, 1 << 20, 8192, 65_536];
            // Refused where more is inside.
            fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(sizes[number % sizes.len()])).ok();
            // As much as there is room for.
            pipe.write_all(&[b'y'; 5000][..1 + number * 37 % 5000]).ok();
            if begun.elapsed() > PERIOD {
                return;
            }
        }
    });
}

fn pipes_that_are_locked_again_and_again(subject: Subject) {
    lock_pipes(&mut start(subject));
}

/// Bytes of others go into pipes that the store has for certain.
fn pipes_that_are_locked_beside_an_fd_store(subject: Subject) {
    let host = Host::new();
    let supervisor = Supervisor::new(&host.path("supervisor"), STORE_FDS);
    let setup = subject.setup_on(&host).confined().supervised_at(supervisor.path());
    let mut daemon = setup.env("FDSTORE", STORE_FDS.to_string()).spawn();
    eventually("it serves", || supervisor.ready_count() > 0);
    lock_pipes(&mut daemon);
    assert!(supervisor.names().iter().any(|name| name.starts_with('p')), "no pipe was stored");
}

fn lock_pipes(daemon: &mut Daemon) {
    attack_with(daemon, |mut pipe| {
        let begun = Instant::now();
        while begun.elapsed() < PERIOD {
            let lock = PipeLock::begin(&pipe);
            thread::sleep(Duration::from_millis(20));
            lock.let_go("y");
            pipe.write_all(b"x").unwrap();
        }
    });
}

fn floods_of_single_bytes(subject: Subject) {
    let mut daemon = start(subject);
    attack_with(&mut daemon, |mut pipe| {
        let begun = Instant::now();
        while begun.elapsed() < PERIOD {
            pipe.write_all(b"\n").unwrap();
        }
    });
}

/// CVE-2013-1962: logs that are opened and end at once, twice at the same path, or where none can be.
fn logs_that_come_and_go(subject: Subject) {
    let mut daemon = start(subject);
    expect_unharmed(&mut daemon, |daemon| {
        let mut client = daemon.log_client();
        for number in 0..1_000 {
            let path = daemon.file(&format!("{}.log", number % 10));
            // Refused as long as the one before has not ended.
            let first = client.open(&path).ok();
            let second = client.open(&path).ok();
            assert!(first.is_none() || second.is_none(), "one path is open twice");
            client.open(&daemon.file("no/such/directory.log")).unwrap_err();
        }
    });
}

/// CVE-2018-1064: 1 GiB, of which none stays in memory.
fn more_output_than_memory(subject: Subject) {
    const BYTES: usize = 1 << 30;
    const GROWTH_MAX_KIB: u64 = 16 << 10;
    let mut daemon = start_with(subject, "max_size = 1048576\nmax_backups = 2");
    let before_kib = daemon.memory_kib("VmHWM");
    expect_unharmed(&mut daemon, |daemon| {
        let mut pipe = open(daemon, 0);
        let block = vec![b'z'; 1 << 20];
        (0..BYTES / block.len()).for_each(|_| pipe.write_all(&block).unwrap());
    });
    let grown_kib = daemon.memory_kib("VmHWM") - before_kib;
    assert!(grown_kib < GROWTH_MAX_KIB, "{grown_kib} KiB");
}

/// Several guests attack at once, each with its pipe.
fn attack_with(daemon: &mut Daemon, attack: impl Fn(File) + Sync) {
    expect_unharmed(daemon, |daemon| {
        let pipes: Vec<_> = (0..GUESTS).map(|number| open(daemon, number)).collect();
        thread::scope(|scope| {
            for pipe in pipes {
                scope.spawn(|| attack(pipe));
            }
        });
    });
}

fn open(daemon: &Daemon, number: usize) -> File {
    daemon.log_client().open(&daemon.file(&format!("attack.{number}"))).unwrap().pipe
}

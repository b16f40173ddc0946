//! Leases beside other processes' locks and other hosts' leases.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::libc;
use tests::harness::{Daemon, SetAtEnd, Subject, expect_missing, left_out};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, LockClient};

use super::{
    Kind, NOBODY, SOMEBODY_ELSE, client_of, image, is_leased, locked, open, text, try_lock,
};

tests::both! { Virtlockd:
    a_strangers_write_lock_excludes_all_leases,
    a_strangers_read_lock_excludes_exclusive_leases,
    a_lease_excludes_a_strangers_lock,
    locks_on_other_bytes_do_not_matter,
    a_contender_never_gets_a_lease_that_is_held,
    two_hosts_exclude_each_other,
    two_hosts_share_an_automatic_lease,
    two_hosts_take_turns_with_an_automatic_lease,
}

tests::ours! { Virtlockd:
    hosts_of_different_makers_exclude_each_other,
    hosts_of_different_makers_take_turns,
}

const KINDS: [Kind; 2] = [Kind::Posix, Kind::Ofd];

/// Cycles of acquire and release that a contender is in the way of.
const CYCLES: usize = 10_000;

/// Leases that each of two hosts gets while the other wants the same.
const TURNS: usize = 1_000;

fn a_strangers_write_lock_excludes_all_leases(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    for kind in KINDS {
        let image = image(&daemon, &format!("{kind:?}"));
        let stranger = open(&image);
        assert!(try_lock(&stranger, kind, libc::F_WRLCK, 0));
        for flags in [0, ACQUIRE_SHARED] {
            assert_eq!(client.acquire("", &image, flags), Err(locked(&image)));
        }
        assert!(try_lock(&stranger, kind, libc::F_UNLCK, 0));
        client.acquire("", &image, 0).unwrap();
    }
}

fn a_strangers_read_lock_excludes_exclusive_leases(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    for kind in KINDS {
        let image = image(&daemon, &format!("{kind:?}"));
        let stranger = open(&image);
        assert!(try_lock(&stranger, kind, libc::F_RDLCK, 0));
        assert_eq!(client.acquire("", &image, 0), Err(locked(&image)));
        client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    }
}

fn a_lease_excludes_a_strangers_lock(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    for kind in KINDS {
        let image = image(&daemon, &format!("{kind:?}"));
        let stranger = open(&image);
        client.acquire("", &image, 0).unwrap();
        assert!(!try_lock(&stranger, kind, libc::F_RDLCK, 0));
        client.release("", &image, 0).unwrap();
        client.acquire("", &image, ACQUIRE_SHARED).unwrap();
        assert!(!try_lock(&stranger, kind, libc::F_WRLCK, 0));
        assert!(try_lock(&stranger, kind, libc::F_RDLCK, 0));
    }
}

/// QEMU locks bytes 100 to 103 and 200 to 203.
fn locks_on_other_bytes_do_not_matter(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let image = image(&daemon, "image");
    let qemu = open(&image);
    for byte in [1, 100, 103, 200, 203] {
        assert!(try_lock(&qemu, Kind::Ofd, libc::F_WRLCK, byte));
    }
    client.acquire("", &image, 0).unwrap();
    assert!(try_lock(&qemu, Kind::Ofd, libc::F_WRLCK, 104));
}

/// The contender may win between two leases, but while it has its lock nobody has the lease. Each
/// lease is held until it has tried once more.
fn a_contender_never_gets_a_lease_that_is_held(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let (is_held, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let attempts = AtomicUsize::new(0);
    thread::scope(|scope| {
        let contender = scope.spawn(|| {
            let mut wins = 0;
            while !is_over.load(Ordering::SeqCst) {
                let file = open(&image);
                if try_lock(&file, Kind::Posix, libc::F_WRLCK, 0) {
                    assert!(!is_held.load(Ordering::SeqCst), "the lease was held");
                    wins += 1;
                }
                attempts.fetch_add(1, Ordering::SeqCst);
            }
            wins
        });
        let _end = SetAtEnd(&is_over);
        let mut client = client_of(&daemon, NOBODY);
        for _ in 0..CYCLES {
            acquire_after_all(&mut client, "", &image, 0);
            is_held.store(true, Ordering::SeqCst);
            // The first to end may have begun before the lease.
            let enough = attempts.load(Ordering::SeqCst) + 2;
            while attempts.load(Ordering::SeqCst) < enough && !contender.is_finished() {
                thread::yield_now();
            }
            is_held.store(false, Ordering::SeqCst);
            client.release("", &image, 0).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        let wins: usize = contender.join().unwrap();
        assert!(wins > 0, "it never came to a contest");
    });
}

/// Two daemons, each on a host of its own, with a lockspace on the same directory.
fn two_hosts(one: Subject, two: Subject) -> (Daemon, Daemon, String) {
    let (one, two) = (one.start(), two.start());
    let space = text(&one.file("space"));
    for daemon in [&one, &two] {
        daemon.lock_client().create_lockspace(&space).unwrap();
    }
    (one, two, space)
}

fn two_hosts_exclude_each_other(subject: Subject) {
    exclude_each_other(subject, subject);
}

fn hosts_of_different_makers_exclude_each_other(subject: Subject) {
    match subject.other().executable() {
        Ok(_) => {
            exclude_each_other(subject, subject.other());
            exclude_each_other(subject.other(), subject);
        }
        Err(reason) => left_out("hosts of different makers", &reason),
    }
}

fn exclude_each_other(one: Subject, two: Subject) {
    let (one, two, space) = two_hosts(one, two);
    let mut here = client_of(&one, NOBODY);
    let mut there = client_of(&two, NOBODY);
    here.create(&space, "lease", 0).unwrap();
    for flags in [0, ACQUIRE_AUTOCREATE] {
        here.acquire(&space, "lease", flags).unwrap();
        for asked in 0..4 {
            assert_eq!(there.acquire(&space, "lease", asked), Err(locked("lease")));
        }
        here.release(&space, "lease", 0).unwrap();
        there.acquire(&space, "lease", ACQUIRE_AUTOCREATE).unwrap();
        assert_eq!(here.acquire(&space, "lease", 0), Err(locked("lease")));
        there.release(&space, "lease", 0).unwrap();
        here.create(&space, "lease", 0).unwrap();
    }
}

fn two_hosts_share_an_automatic_lease(subject: Subject) {
    let (one, two, space) = two_hosts(subject, subject);
    let (mut here, mut there) = (client_of(&one, NOBODY), client_of(&two, NOBODY));
    let path = one.file("space/lease");
    for client in [&mut here, &mut there] {
        client.acquire(&space, "lease", ACQUIRE_AUTOCREATE | ACQUIRE_SHARED).unwrap();
    }
    here.release(&space, "lease", 0).unwrap();
    assert!(is_leased(&text(&path)));
    there.release(&space, "lease", 0).unwrap();
    expect_missing(&path);
}

fn two_hosts_take_turns_with_an_automatic_lease(subject: Subject) {
    take_turns(subject, subject);
}

fn hosts_of_different_makers_take_turns(subject: Subject) {
    match subject.other().executable() {
        Ok(_) => take_turns(subject, subject.other()),
        Err(reason) => left_out("hosts of different makers", &reason),
    }
}

/// The file is removed and made again with each turn, so that one host may lock what the other
/// has just removed.
fn take_turns(one: Subject, two: Subject) {
    let (one, two, space) = two_hosts(one, two);
    let holders = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (daemon, pid) in [(&one, NOBODY), (&two, SOMEBODY_ELSE)] {
            let (space, holders) = (&space, &holders);
            scope.spawn(move || {
                let mut client = client_of(daemon, pid);
                for _ in 0..TURNS {
                    acquire_after_all(&mut client, space, "lease", ACQUIRE_AUTOCREATE);
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "both have it");
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1, "both have it");
                    client.release(space, "lease", 0).unwrap();
                }
            });
        }
    });
    expect_missing(&one.file("space/lease"));
}

fn acquire_after_all(client: &mut LockClient, space: &str, name: &str, flags: u32) {
    while let Err(error) = client.acquire(space, name, flags) {
        assert_eq!(error, locked(name));
    }
}

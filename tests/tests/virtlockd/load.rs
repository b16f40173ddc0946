//! Many leases by many connections.

use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::harness::{Subject, eventually, left_out};
use tests::wire::{ACQUIRE_SHARED, LockClient, Owner};

use super::{NOBODY, client_of, image, is_leased, locked, owner};

tests::both! { Virtlockd:
    ten_thousand_leases_by_a_thousand_connections,
    no_descriptor_stays_open,
}

const CONNECTIONS: u32 = 1_000;
const LEASES_EACH: usize = 10;

/// Enough for all leases, connections and what else a daemon has open.
const OPEN_FILES_MAX: u64 = 13_000;

/// The first pid of owners that do not exist.
const FIRST_PID: u32 = 6_000_000;

fn no_descriptor_stays_open(subject: Subject) {
    const ROUNDS: usize = 100;
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Command::new("sleep").arg("60").spawn().unwrap();
    let round = |pid| {
        let mut client = client_of(&daemon, pid);
        client.acquire("", &image, ACQUIRE_SHARED).unwrap();
        client.acquire("", &image, 0).unwrap_err();
        client.release("", &image, 0).unwrap();
    };
    // Readiness is told through a socket that may still be open; a client that has had an answer
    // knows that the daemon is past that.
    let _present = client_of(&daemon, NOBODY);
    let before = daemon.fd_count();
    for pid in [NOBODY, guest.id()].repeat(ROUNDS) {
        round(pid);
    }
    eventually("all are closed", || daemon.fd_count() == before);
    guest.kill().unwrap();
    guest.wait().unwrap();
}

fn ten_thousand_leases_by_a_thousand_connections(subject: Subject) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < OPEN_FILES_MAX {
        return left_out("ten thousand leases", "there may not be so many open files");
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let limit = format!("--nofile={OPEN_FILES_MAX}:{OPEN_FILES_MAX}");
    let setup = subject.setup().limit(&limit).config("max_clients = 1010");
    let daemon = setup.start();
    let images: Vec<Vec<String>> = (0..CONNECTIONS)
        .map(|guest| {
            let name = |number| format!("{guest}.{number}");
            (0..LEASES_EACH).map(|number| image(&daemon, &name(number))).collect()
        })
        .collect();
    let mut clients: Vec<LockClient> = (0..CONNECTIONS)
        .map(|number| {
            let mut client = daemon.lock_client();
            let guest = Owner { name: format!("guest {number}"), ..owner(FIRST_PID + number) };
            client.register(&guest, 0).unwrap();
            client
        })
        .collect();
    for number in 0..LEASES_EACH {
        for (client, images) in clients.iter_mut().zip(&images) {
            client.acquire("", &images[number], 0).unwrap();
        }
    }
    assert!(images.iter().flatten().all(|image| is_leased(image)));
    let (first, rest) = clients.split_first_mut().unwrap();
    for images in &images[1..] {
        assert_eq!(first.acquire("", &images[0], 0), Err(locked(&images[0])));
    }
    for (client, images) in rest.iter_mut().zip(&images[1..]) {
        for image in images {
            client.release("", image, 0).unwrap();
        }
    }
    assert!(images[0].iter().all(|image| is_leased(image)));
    assert!(!images[1..].iter().flatten().any(|image| is_leased(image)));
}

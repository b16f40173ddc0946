//! Connections to virtlockd in the hands of somebody else: a guest's own, and those of clients that do
//! not know what they want.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use tests::guest::{Guest, owner};
use tests::harness::{Daemon, Subject};
use tests::wire::{Header, LOCK_PROGRAM, LockClient};

use crate::bystanders::{expect_unharmed, start, start_with};

tests::ours! { Virtlockd:
    a_restricted_connection_as_a_weapon,
    leases_that_are_asked_for_again_and_again,
    owners_that_are_registered_again_and_again,
}

/// How long one attacks.
const PERIOD: Duration = Duration::from_secs(2);

/// A guest that was taken over has the connection that it inherited: it may say what it likes, and gets
/// nothing, nor keeps the daemon from others.
fn a_restricted_connection_as_a_weapon(subject: Subject) {
    let mut daemon = start(subject);
    let victim = image(&daemon, "victim.img");
    expect_unharmed(&mut daemon, |daemon| {
        let guest = Guest::start(daemon);
        let mut holder = daemon.lock_client();
        holder.register(&owner(guest.pid()), 0).unwrap();
        holder.acquire("", &victim, 0).unwrap();
        let mut weapon = daemon.lock_client();
        weapon.register(&owner(guest.pid()), 0).unwrap();
        weapon.restrict(0).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < PERIOD {
            weapon.release("", &victim, 0).unwrap_err();
            weapon.acquire("", &victim, 0).unwrap_err();
            weapon.register(&owner(guest.pid()), 0).unwrap_err();
            weapon.delete("", &victim, 0).unwrap_err();
            weapon.new_lockspace(daemon.file("space").to_str().unwrap(), 0).unwrap_err();
            weapon.restrict(0).unwrap_err();
        }
        holder.release("", &victim, 0).expect("it is still the guest's");
    });
}

fn leases_that_are_asked_for_again_and_again(subject: Subject) {
    let mut daemon = start_with(subject, "max_clients = 500");
    let images: Vec<_> = (0..4).map(|number| image(&daemon, &format!("{number}.img"))).collect();
    expect_unharmed(&mut daemon, |daemon| {
        let guest = Guest::start(daemon);
        thread::scope(|scope| {
            for image in &images {
                let mut client = client_of(daemon, guest.pid());
                scope.spawn(move || {
                    let begun = Instant::now();
                    while begun.elapsed() < PERIOD {
                        client.acquire("", image, 0).unwrap();
                        client.acquire("", "/no/such/directory/image", 0).unwrap_err();
                        client.release("", image, 0).unwrap();
                        client.release("", image, 0).unwrap_err();
                    }
                });
            }
        });
    });
}

/// Calls without an owner, and clients that leave right after they have registered one.
fn owners_that_are_registered_again_and_again(subject: Subject) {
    let mut daemon = start(subject);
    expect_unharmed(&mut daemon, |daemon| {
        let guest = Guest::start(daemon);
        for _ in 0..1_000 {
            let mut client = client_of(daemon, guest.pid());
            let calls: Vec<u8> =
                (1..9).flat_map(|call| Header::call(LOCK_PROGRAM, call).message(&[])).collect();
            client.connection().send(&calls).unwrap();
        }
    });
}

fn client_of(daemon: &Daemon, pid: u32) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(pid), 0).unwrap();
    client
}

fn image(daemon: &Daemon, name: &str) -> String {
    let path = daemon.file(name);
    fs::write(&path, "").unwrap();
    path.to_str().expect("UTF-8").to_owned()
}

//! Files on which another process has an `fcntl(2)` lease, as a file server has for its clients: who
//! wants to open one waits until that is given up, or taken away by the kernel.

use std::fs::File;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;
use tests::harness::{Daemon, FcntlLease, Subject, Whose};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, LockClient, RpcError};

use super::guests::A_WHILE;
use super::owners::Idle;
use super::{Kind, NOBODY, SOMEBODY_ELSE, client_of, image, is_leased, locked, try_lock};

tests::both! { Virtlockd: a_file_is_waited_for_that_another_process_has_a_lease_on }

tests::ours! { Virtlockd:
    nobody_else_waits_for_it,
    a_file_is_not_removed_before_it_is_known_who_has_locked_it,
    an_upgrade_does_not_wait_for_it,
    a_stop_does_not_wait_for_it,
    whose_guest_ends_meanwhile_gets_nothing,
}

type Call = fn(&mut LockClient, &str) -> Result<(), RpcError>;

/// A call that takes a while, on a thread of its own.
fn call(daemon: &Daemon, name: &str, call: Call) -> JoinHandle<Result<LockClient, RpcError>> {
    let (mut client, name) = (client_of(daemon, NOBODY), name.to_owned());
    thread::spawn(move || call(&mut client, &name).map(|()| client))
}

fn acquire(client: &mut LockClient, name: &str) -> Result<(), RpcError> {
    client.acquire("", name, 0)
}

fn a_file_is_waited_for_that_another_process_has_a_lease_on(subject: Subject) {
    let daemon = subject.start();
    let calls: [(bool, Call); 4] = [
        (true, acquire),
        (true, |client, name| client.acquire("", name, ACQUIRE_SHARED)),
        (true, |client, name| client.acquire("", name, ACQUIRE_AUTOCREATE)),
        (false, |client, name| client.create("", name, 0)),
    ];
    for (number, (leases, wanted)) in calls.into_iter().enumerate() {
        for lease in [FcntlLease::read, FcntlLease::write] {
            let image = image(&daemon, &format!("image.{number}"));
            let lease = lease(image.as_ref());
            let waiting = call(&daemon, &image, wanted);
            thread::sleep(A_WHILE);
            assert!(!waiting.is_finished());
            lease.give_up();
            let mut client = waiting.join().unwrap().unwrap();
            if leases {
                assert!(is_leased(&image));
                client.release("", &image, 0).unwrap();
            }
        }
    }
}

fn nobody_else_waits_for_it(subject: Subject) {
    let daemon = subject.start();
    let (image, other) = (image(&daemon, "image"), super::image(&daemon, "other"));
    let lease = FcntlLease::write(image.as_ref());
    let waiting: Vec<_> = (0..3).map(|_| call(&daemon, &image, acquire)).collect();
    let began = Instant::now();
    let mut client = client_of(&daemon, SOMEBODY_ELSE);
    for _ in 0..100 {
        client.acquire("", &other, 0).unwrap();
        client.release("", &other, 0).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(waiting.iter().all(|call| !call.is_finished()));
    daemon.expect_said("has an fcntl lease on");
    lease.give_up();
    // One of them was the first.
    let results = waiting.into_iter().map(|call| call.join().unwrap());
    let refused = results.filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused, [locked(&image), locked(&image)]);
}

/// libvirt's daemon removes it without a look, whoever has locked it.
fn a_file_is_not_removed_before_it_is_known_who_has_locked_it(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let stranger = File::open(&image).unwrap();
    assert!(try_lock(&stranger, Kind::Ofd, libc::F_RDLCK, 0));
    let lease = FcntlLease::read(image.as_ref());
    let waiting = call(&daemon, &image, |client, name| client.delete("", name, 0));
    thread::sleep(A_WHILE);
    assert!(!waiting.is_finished() && Path::new(&image).exists());
    lease.give_up();
    assert_eq!(waiting.join().unwrap().unwrap_err(), locked(&image));
    assert!(Path::new(&image).exists());
    drop(stranger);
    client_of(&daemon, NOBODY).delete("", &image, 0).unwrap();
    assert!(!Path::new(&image).exists());
}

fn an_upgrade_does_not_wait_for_it(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let image = image(&daemon, "image");
    let lease = FcntlLease::write(image.as_ref());
    let waiting = call(&daemon, &image, acquire);
    thread::sleep(A_WHILE);
    daemon.change_to(Whose::Ours);
    let message = format!("Unable to open resource {image}: Resource temporarily unavailable");
    let refused = waiting.join().unwrap().unwrap_err();
    assert_eq!(refused, RpcError::system(51, libc::EAGAIN, &message));
    let waiting = call(&daemon, &image, acquire);
    thread::sleep(A_WHILE);
    lease.give_up();
    let mut client = waiting.join().unwrap().unwrap();
    client.release("", &image, 0).unwrap();
    assert!(!is_leased(&image));
}

fn a_stop_does_not_wait_for_it(subject: Subject) {
    let mut daemon = subject.start();
    let image = image(&daemon, "image");
    let _lease = FcntlLease::write(image.as_ref());
    let mut client = client_of(&daemon, NOBODY);
    let waiting = thread::spawn(move || client.try_acquire(&image));
    thread::sleep(A_WHILE);
    assert!(!waiting.is_finished());
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(!matches!(waiting.join().unwrap(), Ok(Ok(()))));
}

fn whose_guest_ends_meanwhile_gets_nothing(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let lease = FcntlLease::write(image.as_ref());
    let guest = Idle::start();
    let (mut client, name) = (client_of(&daemon, guest.pid()), image.clone());
    let waiting = thread::spawn(move || client.acquire("", &name, 0));
    thread::sleep(A_WHILE);
    assert!(!waiting.is_finished());
    drop(guest);
    waiting.join().unwrap().unwrap_err();
    lease.give_up();
    assert!(!is_leased(&image));
    client_of(&daemon, SOMEBODY_ELSE).acquire("", &image, 0).unwrap();
}

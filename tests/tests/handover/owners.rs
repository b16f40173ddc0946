//! What is known of an owner outlives an upgrade as it was known.

use std::process::Command;
use std::thread;
use std::time::Duration;

use tests::guest::{Guest, owner};
use tests::harness::{Subject, Whose, eventually, needs_root};
use tests::load::is_free;

use super::leases::image;

tests::ours! { Virtlockd:
    a_number_of_a_container_proves_nothing_afterwards,
    a_guest_in_a_container_is_watched_afterwards,
}

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

/// The first process in a namespace calls itself this.
const FIRST: u32 = 1;

/// A number that a process had here a moment ago.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn a_number_of_a_container_proves_nothing_afterwards(subject: Subject) {
    if !needs_root("another pid namespace") {
        return;
    }
    let mut daemon = subject.setup().replaceable().start();
    let (lost, ours) = (image(&daemon, "nobody's"), image(&daemon, "somebody's"));
    let stranger = Guest::start(&daemon);
    let mut container = Guest::start_in_a_pid_namespace(&daemon);
    container.tell(&format!("acquire {} {lost}", dead_pid()));
    container.tell(&format!("acquire {} {ours}", stranger.pid()));
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
        thread::sleep(A_WHILE);
        assert!(!is_free(&lost), "nobody here has the number");
    }
    stranger.kill();
    drop(stranger);
    container.kill();
    container.ending();
    daemon.change_to(Whose::Ours);
    thread::sleep(A_WHILE);
    assert!(!is_free(&ours), "who has the number here is somebody else");
}

fn a_guest_in_a_container_is_watched_afterwards(subject: Subject) {
    if !needs_root("another pid namespace") {
        return;
    }
    let mut daemon = subject.setup().replaceable().start();
    let images = ["own", "left", "late"].map(|name| image(&daemon, name));
    let mut guests = [0, 1].map(|number| {
        let mut guest = Guest::start_in_a_pid_namespace(&daemon);
        guest.tell(&format!("connect {}", images[number]));
        guest
    });
    guests[0].tell(&format!("acquire {FIRST} {}", images[2]));
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
    }
    thread::sleep(A_WHILE);
    assert!(guests.iter_mut().all(Guest::is_running));
    assert!(images.iter().all(|image| !is_free(image)));
    let mut other = daemon.lock_client();
    other.register(&owner(FIRST), 0).unwrap();
    other.release("", &images[0], 0).unwrap_err();
    guests[0].kill();
    eventually("a dead guest's leases are free", || is_free(&images[0]) && is_free(&images[2]));
    assert!(!is_free(&images[1]), "another container's guest has the same number");
    guests[1].tell("leave");
    guests[1].ending();
    assert!(is_free(&images[1]));
}

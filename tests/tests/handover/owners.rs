//! Owners at an upgrade: what is known of them stays as it was known, and none is ended for what we
//! do ourselves.

use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::{Guest, owner};
use tests::harness::{Daemon, GROUP_GID, Route, Subject, Whose, eventually, needs_root};
use tests::load::is_free;

use super::leases::{client_of, image};

tests::ours! { Virtlockd:
    a_number_of_a_container_proves_nothing_afterwards,
    a_guest_in_a_container_is_watched_afterwards,
    where_processes_are_hidden_guests_are_watched_and_stay,
    where_processes_are_hidden_owners_are_watched_afterwards,
}

tests::mixed! { Virtlockd:
    a_guest_that_cannot_be_handed_over_is_not_ended,
    owners_for_whom_there_are_no_descriptors_are_watched_later,
    all_leases_of_the_dead_are_released,
    a_guest_in_a_container_is_no_process_here_after_a_take_over,
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

/// libvirt's daemon has not noticed its end, as it had no connection of its own.
fn all_leases_of_the_dead_are_released(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let images = ["one", "two", "three"].map(|name| image(&daemon, name));
    let mut process = Command::new("sleep").arg("600").spawn().unwrap();
    let mut client = daemon.lock_client();
    client.register(&owner(process.id()), 0).unwrap();
    images.iter().for_each(|image| client.acquire("", image, 0).unwrap());
    drop(client);
    process.kill().unwrap();
    process.wait().unwrap();
    daemon.change_to(Whose::Ours);
    eventually("all are free", || images.iter().all(is_free));
    let guest = Guest::start(&daemon);
    images.iter().for_each(|image| client_of(&daemon, &guest).acquire("", image, 0).unwrap());
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
    eventually("its lease is free", || is_free(&images[1]));
}

/// libvirt's daemon takes its number for that of a process here, which does not end.
fn a_guest_in_a_container_is_no_process_here_after_a_take_over(route: Route) {
    if !needs_root("another pid namespace") {
        return;
    }
    let mut daemon = route.start().setup().replaceable().start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let mut guest = Guest::start_in_a_pid_namespace(&daemon);
    guest.tell(&format!("connect {own}"));
    guest.tell(&format!("acquire {FIRST} {late}"));
    daemon.change_to(Whose::Ours);
    thread::sleep(A_WHILE);
    assert!(guest.is_running() && !is_free(&own) && !is_free(&late));
    guest.kill();
    eventually("a dead guest's leases are free", || is_free(&own) && is_free(&late));
}

/// A daemon that sees in `/proc` only what has no more rights than it, as in a sandbox.
fn start_half_blind(subject: Subject) -> Daemon {
    let hidden = format!("mount -t proc -o hidepid=2,gid={GROUP_GID} proc /proc");
    let setup = subject.setup().replaceable().prepare(&hidden);
    setup.through(["setpriv", "--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"]).start()
}

/// libvirt's daemon serves nobody there, and ends when it takes over.
fn where_processes_are_hidden_guests_are_watched_and_stay(subject: Subject) {
    if !needs_root("hiding processes") {
        return;
    }
    let daemon = start_half_blind(subject);
    let images = ["own", "late"].map(|name| image(&daemon, name));
    let mut guest = Guest::start(&daemon);
    guest.tell(&format!("connect {}", images[0]));
    client_of(&daemon, &guest).acquire("", &images[1], 0).unwrap();
    if subject.other().executable().is_ok() {
        daemon.put(Whose::Theirs);
        daemon.signal(Signal::SIGUSR1);
        eventually("the way back is refused", || daemon.stderr().contains("hidepid"));
    }
    thread::sleep(A_WHILE);
    assert!(guest.is_running());
    assert!(images.iter().all(|image| !is_free(image)));
    guest.kill();
    eventually("a dead guest's leases are free", || images.iter().all(is_free));
}

fn where_processes_are_hidden_owners_are_watched_afterwards(subject: Subject) {
    if !needs_root("hiding processes") {
        return;
    }
    let mut daemon = start_half_blind(subject);
    let image = image(&daemon, "image");
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let mut libvirt = daemon.lock_client();
    libvirt.register(&owner(process.id()), 0).unwrap();
    libvirt.acquire("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    thread::sleep(A_WHILE);
    assert!(!is_free(&image));
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("a dead owner's lease is free", || is_free(&image));
}

/// libvirt's daemon gets no client with half a message.
fn a_guest_that_cannot_be_handed_over_is_not_ended(route: Route) {
    let mut daemon = route.ours().setup().replaceable().start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    guest.tell("stammer");
    daemon.change_to(Whose::Theirs);
    thread::sleep(A_WHILE);
    assert!(guest.is_running() && !is_free(&image));
}

/// As many leases as there is room for, but not for pidfds of their owners beside them.
fn owners_for_whom_there_are_no_descriptors_are_watched_later(route: Route) {
    let mut daemon = route.start().setup().limit("--nofile=64:64").replaceable().start();
    let images: Vec<_> = (0..34).map(|number| image(&daemon, &number.to_string())).collect();
    let mut owners: Vec<_> = images.iter().map(|image| own(&daemon, image)).collect();
    daemon.change_to(Whose::Ours);
    assert!(images.iter().all(|image| !is_free(image)));
    // There is room for those who ask.
    let mut clients = [0, 1, 2].map(|_| daemon.lock_client());
    for client in &mut clients {
        client.register(&owner(owners[0].id()), 0).unwrap();
        client.acquire("", &images[33], 0).unwrap_err();
    }
    for process in &mut owners {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    eventually("all leases are free", || images.iter().all(is_free));
}

/// A process that has a lease and no connection.
fn own(daemon: &Daemon, image: &str) -> Child {
    let process = Command::new("sleep").arg("60").spawn().unwrap();
    let mut client = daemon.lock_client();
    client.register(&owner(process.id()), 0).unwrap();
    client.acquire("", image, 0).unwrap();
    process
}

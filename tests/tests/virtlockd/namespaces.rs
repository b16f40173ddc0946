//! Owners in other pid namespaces, whose numbers mean nothing here. libvirt's daemon compares the
//! numbers all the same.

use std::thread;

use nix::unistd::Pid;
use tests::guest::Guest;
use tests::harness::{Subject, eventually, needs_root};

use super::guests::A_WHILE;
use super::owners::Idle;
use super::{NOBODY, client_of, image, is_leased, not_holder};

tests::ours! { Virtlockd:
    the_end_of_a_guest_in_a_container_frees_its_leases,
    a_guest_in_a_container_that_leaves_its_leases_is_ended,
    guests_of_one_number_in_two_containers_are_two,
    a_containers_client_with_the_number_that_it_registers_is_not_the_guest,
    a_number_from_a_container_is_not_who_has_it_here,
    what_a_containers_client_takes_for_a_guest_there_goes_with_the_guest,
}

/// The first process in a namespace calls itself this.
const FIRST: u32 = 1;

fn in_container(subject: Subject, test: impl FnOnce(Subject)) {
    if needs_root("another pid namespace") {
        test(subject);
    }
}

fn the_end_of_a_guest_in_a_container_frees_its_leases(subject: Subject) {
    in_container(subject, |subject| {
        let daemon = subject.start();
        let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
        let mut guest = Guest::start_in_a_pid_namespace(&daemon);
        guest.tell(&format!("connect {own}"));
        guest.tell(&format!("acquire {FIRST} {late}"));
        thread::sleep(A_WHILE);
        assert!(is_leased(&own) && is_leased(&late));
        guest.kill();
        eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
    });
}

fn a_guest_in_a_container_that_leaves_its_leases_is_ended(subject: Subject) {
    in_container(subject, |subject| {
        let daemon = subject.start();
        let image = image(&daemon, "image");
        let mut guest = Guest::start_in_a_pid_namespace(&daemon);
        guest.tell(&format!("connect {image}"));
        guest.tell("leave");
        // By SIGKILL: the first process of a namespace does not mind SIGTERM.
        guest.ending();
        eventually("its lease is free", || !is_leased(&image));
    });
}

fn guests_of_one_number_in_two_containers_are_two(subject: Subject) {
    in_container(subject, |subject| {
        let daemon = subject.start();
        let images = [image(&daemon, "one"), image(&daemon, "two")];
        let mut guests = images.each_ref().map(|image| {
            let mut guest = Guest::start_in_a_pid_namespace(&daemon);
            guest.tell(&format!("connect {image}"));
            guest
        });
        guests[0].kill();
        eventually("the one's lease is free", || !is_leased(&images[0]));
        thread::sleep(A_WHILE);
        assert!(guests[1].is_running() && is_leased(&images[1]));
        let mut other = client_of(&daemon, FIRST);
        assert_eq!(other.release("", &images[1], 0), Err(not_holder(FIRST)));
        guests[1].kill();
        eventually("the other's lease is free", || !is_leased(&images[1]));
    });
}

/// As libvirtd in a container has it, when its number outside is its guest's inside.
fn a_containers_client_with_the_number_that_it_registers_is_not_the_guest(subject: Subject) {
    in_container(subject, |subject| {
        let daemon = subject.start();
        let image = image(&daemon, "image");
        let mut libvirt = Guest::start_in_a_pid_namespace(&daemon);
        libvirt.tell(&format!("acquire {} {image}", libvirt.outer_pid()));
        libvirt.tell("close");
        thread::sleep(A_WHILE);
        assert!(libvirt.is_running() && is_leased(&image));
        libvirt.tell("close");
    });
}

fn a_number_from_a_container_is_not_who_has_it_here(subject: Subject) {
    in_container(subject, |subject| {
        let daemon = subject.start();
        let (ours, theirs) = (image(&daemon, "ours"), image(&daemon, "theirs"));
        let process = Idle::start();
        let mut client = client_of(&daemon, process.pid());
        client.acquire("", &ours, 0).unwrap();
        let mut container = Guest::start_in_a_pid_namespace(&daemon);
        container.tell(&format!("acquire {} {theirs}", process.pid()));
        assert_eq!(client.release("", &theirs, 0), Err(not_holder(process.pid())));
        drop(process);
        eventually("ours is free", || !is_leased(&ours));
        thread::sleep(A_WHILE);
        assert!(is_leased(&theirs));
    });
}

/// Two processes of one namespace: the guest, and one that speaks for it.
fn what_a_containers_client_takes_for_a_guest_there_goes_with_the_guest(subject: Subject) {
    in_container(subject, |subject| {
        let daemon = subject.start();
        let image = image(&daemon, "image");
        let guest = Guest::start_in_a_pid_namespace(&daemon);
        let mut libvirt = Guest::start_beside(&guest, &daemon);
        libvirt.tell(&format!("acquire {FIRST} {image}"));
        let mut other = client_of(&daemon, NOBODY);
        other.acquire("", &image, 0).unwrap_err();
        let first = Pid::from_raw(guest.outer_pid().cast_signed());
        nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("its lease is free", || other.acquire("", &image, 0).is_ok());
    });
}

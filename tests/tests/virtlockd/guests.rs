//! What becomes of guests and their leases when connections close, guests die, the daemon stops.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Subject, eventually, expect_missing};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED};

use super::{NOBODY, client_of, image, is_leased, locked, text};

tests::both! { Virtlockd:
    a_dead_guests_leases_go_with_it,
    a_zombies_leases_are_free,
    a_guest_that_leaves_its_leases_is_ended,
    a_guest_that_will_not_end_is_killed,
    a_guest_has_time_to_end,
    one_of_two_connections_of_its_own_is_enough,
    a_guest_without_leases_is_left_alone,
    a_guest_that_gave_its_leases_back_is_left_alone,
    another_processs_connection_means_nothing,
    guests_with_leases_end_with_the_daemon,
    a_guest_that_is_not_connected_is_not_ended,
}

tests::ours! { Virtlockd:
    others_are_served_while_a_guest_is_being_ended,
    a_guest_that_talks_nonsense_keeps_its_lease,
    nothing_stays_behind_of_a_lease_acquired_twice,
    a_dead_guests_leases_go_even_without_a_connection_of_its_own,
    a_lease_for_the_dead_is_not_kept,
    guests_end_together_with_the_daemon,
    held_leases_keep_an_idle_daemon_alive,
}

#[test]
#[ignore = "not a test: other tests run it as a process of its own"]
fn stand_in() {
    tests::guest::stand_in();
}

/// Long enough for a signal that must not come, and for a closed connection to be noticed.
pub(super) const A_WHILE: Duration = Duration::from_millis(400);

const SIGTERM: Option<i32> = Some(Signal::SIGTERM as i32);
const SIGKILL: Option<i32> = Some(Signal::SIGKILL as i32);

fn a_dead_guests_leases_go_with_it(subject: Subject) {
    let daemon = subject.start();
    let (one, two) = (image(&daemon, "one"), image(&daemon, "two"));
    let mut guest = Guest::start(&daemon);
    let mut libvirt = client_of(&daemon, guest.pid());
    libvirt.acquire("", &one, 0).unwrap();
    client_of(&daemon, guest.pid()).acquire("", &two, ACQUIRE_SHARED).unwrap();
    let mut other = client_of(&daemon, NOBODY);
    assert_eq!(other.acquire("", &one, 0), Err(locked(&one)));
    guest.kill();
    guest.ending();
    eventually("both are free", || !is_leased(&one) && !is_leased(&two));
    other.acquire("", &one, 0).unwrap();
}

fn a_guest_that_leaves_its_leases_is_ended(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    guest.tell("leave");
    assert_eq!(guest.ending(), SIGTERM);
    eventually("its lease is free", || !is_leased(&image));
}

fn a_guest_that_will_not_end_is_killed(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start_stubborn(&daemon);
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    guest.tell("close");
    if subject.is_ours() {
        std::thread::sleep(A_WHILE);
        assert!(guest.is_running() && is_leased(&image), "it is still at its disk");
    } else {
        eventually("its lease is free before it ends", || !is_leased(&image));
    }
    assert_eq!(guest.ending(), SIGKILL);
    eventually("its lease is free", || !is_leased(&image));
}

fn a_guest_has_time_to_end(subject: Subject) {
    let mut daemon = subject.start();
    let mut guests = [(); 2].map(|()| Guest::start_slow(&daemon));
    for (number, guest) in guests.iter().enumerate() {
        let image = image(&daemon, &number.to_string());
        client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    }
    let [leaving, staying] = &mut guests;
    leaving.tell("leave");
    assert_eq!(leaving.ending(), None, "its connection has closed");
    assert!(staying.is_running());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(staying.ending(), None, "the daemon stops");
    assert_eq!(daemon.wait().code, Some(0));
}

fn one_of_two_connections_of_its_own_is_enough(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    guest.tell("connect");
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    guest.tell("leave");
    assert_eq!(guest.ending(), SIGTERM);
    eventually("its lease is free", || !is_leased(&image));
}

fn a_guest_without_leases_is_left_alone(subject: Subject) {
    let daemon = subject.start();
    let mut guest = Guest::start(&daemon);
    guest.tell("close");
    std::thread::sleep(A_WHILE);
    assert!(guest.is_running());
}

fn a_guest_that_gave_its_leases_back_is_left_alone(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    let mut libvirt = client_of(&daemon, guest.pid());
    libvirt.acquire("", &image, 0).unwrap();
    libvirt.release("", &image, 0).unwrap();
    guest.tell("close");
    std::thread::sleep(A_WHILE);
    assert!(guest.is_running());
}

fn another_processs_connection_means_nothing(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    std::thread::sleep(A_WHILE);
    assert!(guest.is_running() && is_leased(&image));
}

fn guests_with_leases_end_with_the_daemon(subject: Subject) {
    let mut daemon = subject.start();
    let image = image(&daemon, "image");
    let lease = text(&daemon.file("lease"));
    let (mut one, mut two) = (Guest::start(&daemon), Guest::start(&daemon));
    let mut idle = Guest::start(&daemon);
    client_of(&daemon, one.pid()).acquire("", &image, 0).unwrap();
    client_of(&daemon, two.pid()).acquire("", &lease, ACQUIRE_AUTOCREATE).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert_eq!((one.ending(), two.ending()), (SIGTERM, SIGTERM));
    assert_eq!(daemon.wait().code, Some(0));
    assert!(idle.is_running() && !is_leased(&image));
    expect_missing(lease.as_ref());
}

fn a_guest_that_is_not_connected_is_not_ended(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    guest.tell("close");
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    let _keeps_the_image = daemon.host();
    assert_eq!(daemon.stop().code, Some(0));
    std::thread::sleep(A_WHILE);
    assert!(guest.is_running() && !is_leased(&image));
}

/// libvirt's daemon answers nobody meanwhile.
fn others_are_served_while_a_guest_is_being_ended(subject: Subject) {
    let daemon = subject.start();
    let (image, free) = (image(&daemon, "image"), image(&daemon, "free"));
    let mut guest = Guest::start_stubborn(&daemon);
    let mut libvirt = client_of(&daemon, guest.pid());
    libvirt.acquire("", &image, 0).unwrap();
    guest.tell("close");
    let mut other = client_of(&daemon, NOBODY);
    other.acquire("", &free, 0).unwrap();
    assert_eq!(other.acquire("", &image, 0), Err(locked(&image)));
    assert!(guest.is_running());
    eventually("the lease can be had", || other.acquire("", &image, 0).is_ok());
    assert_eq!(guest.ending(), SIGKILL);
    assert!(is_leased(&image), "the next one's lease has nothing to do with the guest");
}

fn a_zombies_leases_are_free(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let guest = Guest::start(&daemon);
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    guest.kill();
    let mut other = client_of(&daemon, NOBODY);
    eventually("the lease can be had", || other.acquire("", &image, 0).is_ok());
    let proc = format!("/proc/{}/stat", guest.pid());
    assert!(std::fs::exists(proc).unwrap(), "nobody has reaped it");
}

/// libvirt's daemon ends it.
fn a_guest_that_talks_nonsense_keeps_its_lease(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    guest.tell("babble");
    std::thread::sleep(A_WHILE);
    assert!(guest.is_running());
    assert_eq!(client_of(&daemon, NOBODY).acquire("", &image, 0), Err(locked(&image)));
    guest.kill();
    eventually("its lease is free", || !is_leased(&image));
}

/// libvirt's daemon forgets one of the two, and the other stays until it stops.
fn nothing_stays_behind_of_a_lease_acquired_twice(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let guest = Guest::start(&daemon);
    for _ in 0..2 {
        client_of(&daemon, guest.pid()).acquire("", &image, ACQUIRE_SHARED).unwrap();
    }
    guest.kill();
    eventually("it is free", || !is_leased(&image));
}

/// libvirt's daemon keeps the lease until it stops.
fn a_dead_guests_leases_go_even_without_a_connection_of_its_own(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    guest.tell("close");
    std::thread::sleep(A_WHILE);
    for _ in 0..2 {
        client_of(&daemon, guest.pid()).acquire("", &image, ACQUIRE_SHARED).unwrap();
    }
    std::thread::sleep(A_WHILE);
    assert!(guest.is_running() && is_leased(&image));
    // It stays a zombie, which is dead for sure.
    guest.kill();
    eventually("it is free", || !is_leased(&image));
}

fn a_lease_for_the_dead_is_not_kept(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let guest = Guest::start(&daemon);
    let mut libvirt = client_of(&daemon, guest.pid());
    guest.kill();
    drop(guest);
    let mut other = client_of(&daemon, NOBODY);
    libvirt.acquire("", &image, 0).unwrap();
    eventually("it can be had", || other.acquire("", &image, 0).is_ok());
}

/// libvirt's daemon ends one after the other.
fn guests_end_together_with_the_daemon(subject: Subject) {
    const GUESTS: u32 = 6;
    /// What the daemon gives a guest before it kills it.
    const PATIENCE: Duration = Duration::from_millis(1600);
    let mut daemon = subject.start();
    let mut guests: Vec<_> = (0..GUESTS).map(|_| Guest::start_stubborn(&daemon)).collect();
    for (number, guest) in guests.iter().enumerate() {
        let image = image(&daemon, &number.to_string());
        client_of(&daemon, guest.pid()).acquire("", &image, 0).unwrap();
    }
    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait();
    assert!(begin.elapsed() < PATIENCE * GUESTS, "one after the other");
    assert_eq!(exit.code, Some(0));
    for guest in &mut guests {
        assert_eq!(guest.ending(), SIGKILL);
        let named = format!(
            "guest 'guest' (uuid 5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a, pid {})",
            guest.pid()
        );
        assert!(exit.stderr.contains(&named), "{}", exit.stderr);
    }
}

fn held_leases_keep_an_idle_daemon_alive(subject: Subject) {
    let mut daemon = subject.setup().args(["-t", "1"]).start();
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert!(daemon.is_running() && is_leased(&image));
    client_of(&daemon, NOBODY).release("", &image, 0).unwrap();
    assert_eq!(daemon.wait().code, Some(0));
}

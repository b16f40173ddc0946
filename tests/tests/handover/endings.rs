//! Guests that are being ended when somebody else takes over.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Route, Subject, Whose, eventually};
use tests::load::is_free;

use super::leases::{client_of, image};

tests::ours! { Virtlockd: a_guest_that_is_being_ended_is_ended_all_the_same }
tests::mixed! { Virtlockd:
    libvirts_daemon_is_left_no_guest_that_is_being_ended,
    a_guest_has_time_to_end_before_libvirts_daemon_comes,
    libvirts_daemon_is_left_no_connection_of_a_guest_that_was_ended,
}

/// Between SIGTERM and SIGKILL, libvirt's.
const PATIENCE: Duration = Duration::from_millis(1600);

/// What it may be late.
const LATE: Duration = Duration::from_millis(1000);

fn a_guest_that_is_being_ended_is_ended_all_the_same(subject: Subject) {
    for upgrades in 1..3 {
        let mut daemon = subject.setup().replaceable().start();
        let image = image(&daemon, "image");
        let mut guest = Guest::start_stubborn(&daemon);
        client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
        let start = Instant::now();
        guest.tell("close");
        for _ in 0..upgrades {
            thread::sleep(Duration::from_millis(100));
            daemon.change_to(Whose::Ours);
        }
        assert!(guest.is_running());
        assert_eq!(guest.ending(), Some(Signal::SIGKILL as i32));
        assert!(start.elapsed() < PATIENCE + LATE, "{:?}", start.elapsed());
        eventually("its lease is free", || is_free(&image));
    }
}

fn libvirts_daemon_is_left_no_guest_that_is_being_ended(route: Route) {
    let mut daemon = route.ours().setup().replaceable().start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start_stubborn(&daemon);
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    guest.tell("close");
    thread::sleep(Duration::from_millis(100));
    daemon.change_to(Whose::Theirs);
    assert!(!guest.is_running() && is_free(&image));
    assert_eq!(guest.ending(), Some(Signal::SIGKILL as i32));
}

fn a_guest_has_time_to_end_before_libvirts_daemon_comes(route: Route) {
    let mut daemon = route.ours().setup().replaceable().start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start_slow(&daemon);
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    guest.tell("leave");
    daemon.change_to(Whose::Theirs);
    assert_eq!(guest.ending(), None);
    assert!(is_free(&image));
}

/// A child of the guest keeps another one open. libvirt's daemon would end, and all leases with it.
fn libvirts_daemon_is_left_no_connection_of_a_guest_that_was_ended(route: Route) {
    let mut daemon = route.ours().setup().replaceable().start();
    let images = ["image", "other"].map(|name| image(&daemon, name));
    let (mut guest, other) = (Guest::start_stubborn(&daemon), Guest::start(&daemon));
    guest.tell("lend");
    guest.tell("connect");
    client_of(&daemon, &guest).acquire("", &images[0], 0).unwrap();
    client_of(&daemon, &other).acquire("", &images[1], 0).unwrap();
    guest.tell("close");
    // It must not be a zombie, either, when libvirt's daemon comes.
    let ending = thread::spawn(move || guest.ending());
    thread::sleep(Duration::from_millis(100));
    daemon.change_to(Whose::Theirs);
    assert_eq!(ending.join().unwrap(), Some(Signal::SIGKILL as i32));
    assert!(is_free(&images[0]) && !is_free(&images[1]));
}

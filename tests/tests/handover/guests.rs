//! Guests with leases before and after an upgrade, in every direction.

use std::cell::RefCell;

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Daemon, Route, eventually, expect_missing};
use tests::load::is_free;
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, LockClient, RpcError};

use super::leases::{client_of, image, text};

tests::routes! { Virtlockd:
    a_guests_end_frees_its_leases_afterwards,
    a_guest_that_leaves_its_leases_afterwards_is_ended,
    a_lease_is_refused_and_given_back_afterwards,
    a_shared_lease_is_free_after_its_last_owner,
    a_restricted_connection_stays_restricted,
    leases_taken_before_and_after_end_with_the_daemon,
}

#[test]
#[ignore = "not a test: other tests run it as a process of its own"]
fn stand_in() {
    tests::guest::stand_in();
}

const SIGTERM: Option<i32> = Some(Signal::SIGTERM as i32);

/// Once around: what is prepared before an upgrade is checked after it, or after all of them.
fn around<T>(
    route: Route,
    prepare: impl Fn(&Daemon, &str) -> T,
    check: impl Fn(&Daemon, T),
) -> Daemon {
    let mut daemon = route.start().setup().replaceable().start();
    let mut kept = Vec::new();
    for (number, after) in route.once().enumerate() {
        let soon = prepare(&daemon, &format!("soon.{number}"));
        kept.push(prepare(&daemon, &format!("late.{number}")));
        daemon.change_to(after);
        check(&daemon, soon);
    }
    kept.into_iter().for_each(|late| check(&daemon, late));
    daemon
}

/// A guest that holds an image.
struct Holder {
    guest: Guest,
    image: String,
    /// libvirtd's connection, by which the lease was taken.
    libvirt: LockClient,
}

impl Holder {
    fn prepare(daemon: &Daemon, name: &str) -> Self {
        let (image, guest) = (image(daemon, name), Guest::start(daemon));
        let mut libvirt = client_of(daemon, &guest);
        libvirt.acquire("", &image, 0).unwrap();
        Self { guest, image, libvirt }
    }
}

fn a_guests_end_frees_its_leases_afterwards(route: Route) {
    around(route, Holder::prepare, |_, Holder { mut guest, image, .. }| {
        assert!(guest.is_running() && !is_free(&image));
        guest.kill();
        guest.ending();
        eventually("its lease is free", || is_free(&image));
    });
}

fn a_guest_that_leaves_its_leases_afterwards_is_ended(route: Route) {
    around(route, Holder::prepare, |_, Holder { mut guest, image, .. }| {
        guest.tell("leave");
        assert_eq!(guest.ending(), SIGTERM);
        eventually("its lease is free", || is_free(&image));
    });
}

fn a_lease_is_refused_and_given_back_afterwards(route: Route) {
    around(route, Holder::prepare, |daemon, Holder { guest, image, mut libvirt }| {
        let other = Guest::start(daemon);
        let mut contender = client_of(daemon, &other);
        assert_eq!(contender.acquire("", &image, 0), Err(locked(&image)));
        libvirt.release("", &image, 0).unwrap();
        contender.acquire("", &image, 0).unwrap();
        assert_eq!(client_of(daemon, &guest).acquire("", &image, 0), Err(locked(&image)));
        contender.release("", &image, 0).unwrap();
    });
}

fn a_shared_lease_is_free_after_its_last_owner(route: Route) {
    let prepare = |daemon: &Daemon, name: &str| {
        let (image, guests) = (image(daemon, name), [(); 2].map(|()| Guest::start(daemon)));
        for guest in &guests {
            client_of(daemon, guest).acquire("", &image, ACQUIRE_SHARED).unwrap();
        }
        (image, guests)
    };
    around(route, prepare, |daemon, (image, [one, two])| {
        client_of(daemon, &one).release("", &image, 0).unwrap();
        assert!(!is_free(&image));
        client_of(daemon, &two).release("", &image, 0).unwrap();
        assert!(is_free(&image));
    });
}

fn a_restricted_connection_stays_restricted(route: Route) {
    let prepare = |daemon: &Daemon, name: &str| {
        let mut holder = Holder::prepare(daemon, name);
        holder.libvirt.restrict(0).unwrap();
        holder
    };
    around(route, prepare, |_, Holder { image, mut libvirt, .. }| {
        assert_eq!(libvirt.release("", &image, 0).unwrap_err().code, 29);
    });
}

/// The daemon's own files go with their leases, whoever made them.
fn leases_taken_before_and_after_end_with_the_daemon(route: Route) {
    let guests = RefCell::new(Vec::new());
    let prepare = |daemon: &Daemon, name: &str| {
        let mut holder = Holder::prepare(daemon, name);
        let made = text(&daemon.file(&format!("{name}.made")));
        holder.libvirt.acquire("", &made, ACQUIRE_AUTOCREATE).unwrap();
        (holder, made)
    };
    let mut daemon = around(route, prepare, |_, holder| guests.borrow_mut().push(holder));
    daemon.signal(Signal::SIGTERM);
    let mut guests = guests.into_inner();
    let endings: Vec<_> = guests.iter_mut().map(|(holder, _)| holder.guest.ending()).collect();
    assert!(endings.iter().all(|&ending| ending == SIGTERM), "{endings:?}");
    assert_eq!(daemon.wait().code, Some(0));
    for (holder, made) in &guests {
        assert!(is_free(&holder.image));
        expect_missing(made.as_ref());
    }
}

/// Code 87: somebody has it.
fn locked(name: &str) -> RpcError {
    let detail = format!("Lockspace resource '{name}' is locked");
    RpcError::templated(87, 51, "resource busy: ", &detail)
}

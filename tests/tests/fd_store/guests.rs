//! Guests that are connected to virtlockd for themselves, so that they end with it.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Subject, eventually};
use tests::load::is_free;
use tests::supervisor::Service;

use crate::items::{Item, LARGE, Lease, Scene, client_for, image, is_stored_as, parted, settle};

tests::ours! { Virtlockd:
    a_restricted_connection_stays_restricted_after_a_crash,
    a_guest_that_leaves_its_lease_behind_after_a_crash_is_ended,
    a_guest_for_which_there_was_no_room_is_stored_later,
    a_guest_that_is_being_ended_does_not_outlive_a_stop,
}

#[test]
#[ignore = "not a test: other tests run it as a process of its own"]
fn stand_in() {
    tests::guest::stand_in();
}

fn a_restricted_connection_stays_restricted_after_a_crash(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut tenants = Tenant::start(&scene, "i", 1);
    eventually("the lease is in the store", || tenants[0].is_stored(&scene));
    for _ in 0..2 {
        // A call that is killed in the moment in which it is answered is answered once more.
        scene.expect_serving();
        scene.kill_and_start();
        tenants[0].guest.tell("release");
        tenants[0].expect_going_on();
    }
}

/// Its own connection is known as that.
fn a_guest_that_leaves_its_lease_behind_after_a_crash_is_ended(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut tenants = Tenant::start(&scene, "i", 1);
    eventually("the lease is in the store", || tenants[0].is_stored(&scene));
    expect_known_after_a_crash(&mut scene, &mut tenants[0]);
}

/// Its lease and its connection.
fn a_guest_for_which_there_was_no_room_is_stored_later(subject: Subject) {
    /// Room for some of the leases, beside what is always there.
    const SOME: usize = 16;
    let mut scene = Scene::begin(subject, SOME);
    let (stored, others) = parted(&scene, scene.items::<Lease>(SOME));
    let mut tenants = Tenant::start(&scene, "t", 1);
    settle(&scene);
    assert!(!tenants[0].is_stored(&scene), "there is room for one more");
    stored.into_iter().chain(others).for_each(|lease| lease.leave(&scene));
    eventually("there is room for the lease", || tenants[0].is_stored(&scene));
    settle(&scene);
    expect_known_after_a_crash(&mut scene, &mut tenants[0]);
}

/// Whoever comes next may know nothing of it.
fn a_guest_that_is_being_ended_does_not_outlive_a_stop(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let left = image(&scene, "left");
    let mut guest = Guest::start_stubborn(scene.daemon());
    client_for(&scene, guest.pid()).acquire("", &left, 0).expect("a lease");
    guest.tell("close");
    scene.end(Signal::SIGTERM, Duration::from_secs(20), || ());
    assert!(!guest.is_running(), "nobody ends it any more");
    scene.spawn();
    scene.expect_serving();
    assert!(is_free(&left));
}

/// Its lease is kept, and it is ended when its own connection leaves that behind.
#[track_caller]
fn expect_known_after_a_crash(scene: &mut Scene, tenant: &mut Tenant) {
    scene.kill_and_start();
    tenant.expect_going_on();
    tenant.guest.tell("leave");
    assert_eq!(tenant.guest.ending(), Some(SIGTERM));
    eventually("its lease is free", || is_free(&tenant.image));
}

const SIGTERM: i32 = 15;

/// A guest with a lease.
pub(crate) struct Tenant {
    pub(crate) guest: Guest,
    image: String,
}

impl Tenant {
    /// So many, all at once.
    pub(crate) fn start(service: &Service, name: &str, count: usize) -> Vec<Self> {
        std::thread::scope(|scope| {
            let start = |number| {
                let image = image(service, &format!("{name}{number}"));
                let socket = service.daemon().main_socket();
                scope.spawn(move || {
                    let guest = Guest::start_with_leases(&socket, std::slice::from_ref(&image));
                    Self { guest, image }
                })
            };
            let started: Vec<_> = (0..count).map(start).collect();
            started.into_iter().map(|thread| thread.join().expect("a guest")).collect()
        })
    }

    /// Whether its lease is in the store.
    pub(crate) fn is_stored(&self, service: &Service) -> bool {
        let path = self.image.as_ref();
        is_stored_as(service, 'r', tests::harness::inode(path), path)
    }

    #[track_caller]
    pub(crate) fn expect_going_on(&mut self) {
        assert!(self.guest.is_running(), "a guest whose lease is stored is ended");
        assert!(!is_free(&self.image), "{} is free", self.image);
    }

    /// The guest was asked to end and its lease is free.
    #[track_caller]
    pub(crate) fn expect_ended(&mut self) {
        assert_eq!(self.guest.ending(), Some(SIGTERM));
        assert!(is_free(&self.image), "{} is locked for nobody", self.image);
    }
}

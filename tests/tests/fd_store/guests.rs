//! Guests that are connected to virtlockd for themselves, so that they end with it.

use tests::guest::Guest;
use tests::harness::{Subject, eventually};
use tests::load::is_free;
use tests::supervisor::Service;

use crate::items::{LARGE, Scene, image, is_stored_as};

tests::ours! { Virtlockd:
    a_restricted_connection_stays_restricted_after_a_crash,
    a_guest_that_leaves_its_lease_behind_after_a_crash_is_ended,
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
    scene.kill_and_start();
    tenants[0].expect_going_on();
    tenants[0].guest.tell("leave");
    assert_eq!(tenants[0].guest.ending(), Some(SIGTERM));
    eventually("its lease is free", || is_free(&tenants[0].image));
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

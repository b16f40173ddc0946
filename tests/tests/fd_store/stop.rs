//! A stop with a store that has no room for everything.

use nix::sys::signal::Signal;
use tests::harness::{Subject, eventually};

use crate::guests::Tenant;
use crate::items::{Item, Lease, Log, Scene, expect_all_going_on, parted, settle};

tests::ours! { Virtlogd:
    a_stop_ends_logs_that_are_not_stored,
    a_log_that_did_not_fit_goes_in_when_there_is_room,
}

tests::ours! { Virtlockd:
    a_stop_ends_guests_whose_leases_are_not_stored,
    a_lease_that_did_not_fit_goes_in_when_there_is_room,
}

/// Room for some of the items, beside what is always there.
const SOME_LOGS: usize = 30;
const SOME_LEASES: usize = 16;

const MANY: usize = 12;

/// Guests for which there is room.
const FIRST: usize = 2;

fn a_stop_ends_logs_that_are_not_stored(subject: Subject) {
    let mut scene = Scene::begin(subject, SOME_LOGS);
    let logs: Vec<Log> = scene.items(MANY);
    let (mut stored, mut others) = parted(&scene, logs);
    scene.daemon().signal(Signal::SIGSTOP);
    for log in stored.iter_mut().chain(&mut others) {
        assert!(log.write_line());
    }
    scene.daemon().signal(Signal::SIGTERM);
    scene.daemon().signal(Signal::SIGCONT);
    scene.stop_and_start();
    expect_all_going_on(&mut stored);
    assert!(others.iter_mut().all(Item::has_ended), "it goes on without being read");
}

fn a_stop_ends_guests_whose_leases_are_not_stored(subject: Subject) {
    let mut scene = Scene::begin(subject, SOME_LEASES);
    // A lease that fits next to connections of others: of guests that start at once it may be none.
    let mut tenants = Tenant::start(&scene, "first.", FIRST);
    settle(&scene);
    tenants.extend(Tenant::start(&scene, "i", MANY - FIRST));
    settle(&scene);
    let (mut stored, mut others): (Vec<_>, Vec<_>) =
        tenants.into_iter().partition(|tenant| tenant.is_stored(&scene));
    assert!(!stored.is_empty() && !others.is_empty(), "{} fit, not some", stored.len());
    scene.stop_and_start();
    others.iter_mut().for_each(Tenant::expect_ended);
    stored.iter_mut().for_each(Tenant::expect_going_on);
    scene.kill_and_start();
    stored.iter_mut().for_each(Tenant::expect_going_on);
}

fn a_log_that_did_not_fit_goes_in_when_there_is_room(subject: Subject) {
    goes_in_when_there_is_room::<Log>(subject, SOME_LOGS);
}

fn a_lease_that_did_not_fit_goes_in_when_there_is_room(subject: Subject) {
    goes_in_when_there_is_room::<Lease>(subject, SOME_LEASES);
}

fn goes_in_when_there_is_room<T: Item>(subject: Subject, told: usize) {
    let mut scene = Scene::begin(subject, told);
    let items: Vec<T> = scene.items(MANY);
    let (mut stored, mut others) = parted(&scene, items);
    while let Some(item) = stored.pop() {
        let is_stored = |others: &[T]| others.iter().filter(|item| item.is_stored(&scene)).count();
        let before = is_stored(&others);
        item.leave(&scene);
        if before < others.len() {
            eventually("another goes in", || is_stored(&others) > before);
        }
    }
    others.retain(|item| item.is_stored(&scene));
    scene.kill_and_start();
    expect_all_going_on(&mut others);
}

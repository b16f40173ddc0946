//! Names in the store that nobody of ours has given.

use std::fs::File;

use tests::harness::Subject;

use crate::items::{Item, LARGE, Lease, Log, Scene, expect_all_going_on};

tests::ours! { Virtlogd: strange_names_harm_no_log }
tests::ours! { Virtlockd: strange_names_harm_no_lease }

/// Letters that nobody knows, and numbers that nobody counts to.
const NAMES: [&str; 12] = [
    "zebra",
    "x1",
    "l",
    "lffffffffffffffff",
    "r7fffffffffffffff",
    "p100000000000",
    "cffffffffffff",
    "mffffffffffffffff",
    "offffffffffffffff",
    "jffffffffffffffff",
    "s.ffffffffffffffff",
    "s.-1",
];

/// Far more than it needs for ten items.
const MEMORY_KIB_MAX: u64 = 32 * 1024;

fn strange_names_harm_no_log(subject: Subject) {
    harm_nothing::<Log>(subject);
}

fn strange_names_harm_no_lease(subject: Subject) {
    harm_nothing::<Lease>(subject);
}

fn harm_nothing<T: Item>(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut items: Vec<T> = scene.items(10);
    scene.expect_stored(&items);
    for name in NAMES {
        scene.supervisor.keep(name, File::open("/dev/null").unwrap().into());
    }
    for _ in 0..2 {
        scene.kill_and_start();
        expect_all_going_on(&mut items);
        let memory_kib = scene.daemon().memory_kib("VmHWM");
        assert!(memory_kib < MEMORY_KIB_MAX, "{memory_kib} KiB");
        scene.expect_stored(&items);
    }
    scene.upgrade_to_current();
    expect_all_going_on(&mut items);
}

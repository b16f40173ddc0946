//! A store that takes less than `FDSTORE` says, or just so much.

use tests::harness::{Subject, block, eventually, expect_file, guest_writes, unblock};
use tests::supervisor::Origin;

use crate::items::{Item, LARGE, Lease, Log, Scene, expect_all_going_on, parted};

tests::ours! { Virtlogd:
    a_store_that_takes_fewer_logs_than_said_is_noticed,
    virtlogds_essentials_go_in_first,
    what_is_staged_outlives_a_restart_with_a_full_store,
}

tests::ours! { Virtlockd:
    a_store_that_takes_fewer_leases_than_said_is_noticed,
    virtlockds_essentials_go_in_first,
}

/// Room for some of the items, beside what is always there.
const SOME_LOGS: usize = 30;
const SOME_LEASES: usize = 16;

const MANY: usize = 14;

fn a_store_that_takes_fewer_logs_than_said_is_noticed(subject: Subject) {
    is_noticed::<Log>(subject, SOME_LOGS);
}

fn a_store_that_takes_fewer_leases_than_said_is_noticed(subject: Subject) {
    is_noticed::<Lease>(subject, SOME_LEASES);
}

fn is_noticed<T: Item>(subject: Subject, kept: usize) {
    let origin = Origin { kept: Some(kept), ..Origin::default() };
    let mut scene = Scene::begin_from(origin, subject, LARGE);
    let items: Vec<T> = scene.items(MANY);
    let said = format!("fds, and not {LARGE} as announced");
    eventually("it is noticed", || scene.daemon().stderr().contains(&said));
    assert_eq!(scene.daemon().stderr().matches(&said).count(), 1, "it is said once");
    let (mut stored, mut others) = parted(&scene, items);
    scene.kill_and_start();
    expect_all_going_on(&mut stored);
    eventually("the others have ended", || others.iter_mut().all(Item::has_ended));
    scene.kill_and_start();
    expect_all_going_on(&mut stored);
}

fn virtlogds_essentials_go_in_first(subject: Subject) {
    essentials_go_in_first::<Log>(subject, "jmo", 4);
}

fn virtlockds_essentials_go_in_first(subject: Subject) {
    essentials_go_in_first::<Lease>(subject, "jo", 3);
}

fn essentials_go_in_first<T: Item>(subject: Subject, letters: &str, count: usize) {
    /// Beside the essentials: sentinels, and what may be an item.
    const MORE: usize = 3;
    let origin = Origin { kept: Some(count + MORE), ..Origin::default() };
    let mut scene = Scene::begin_from(origin, subject, LARGE);
    let items: Vec<T> = scene.items(MANY);
    let essentials = scene.names(letters);
    assert_eq!(essentials.len(), count, "{essentials:?}");
    scene.kill_and_start();
    assert_eq!(scene.names(letters), essentials);
    drop(items);
}

fn what_is_staged_outlives_a_restart_with_a_full_store(subject: Subject) {
    /// More than the guest's pipe holds, and not much more, as all of it is to be kept.
    const BYTES: usize = 18 * 4096;
    let mut scene = Scene::begin(subject, SOME_LOGS);
    let mut log = Log::begin(&scene, "log");
    log.expect_going_on();
    scene.expect_stored(std::slice::from_ref(&log));
    let (mut stored, others) = parted(&scene, scene.items::<Log>(MANY));
    let before = scene.inodes("p");
    scene.stop_and_start();
    eventually(
        "new staging pipes are in the store: one to write with, and one to keep bytes in",
        || {
            let pipes = scene.inodes("p");
            pipes.len() > 1 && pipes.is_disjoint(&before)
        },
    );
    block(&log.path);
    let text = "0123456789abcde\n".repeat(BYTES / 16);
    guest_writes(&log.pipe, text.clone());
    log.sent.push_str(&text);
    scene.kill_and_start();
    unblock(&log.path);
    expect_file(&log.path, &log.sent);
    expect_all_going_on(&mut stored);
    drop(others);
}

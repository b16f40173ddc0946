//! A store that is emptied behind the daemon's back, and one that changes its size.

use tests::harness::{Subject, Whose, eventually};
use tests::supervisor::Upgraded;

use crate::items::{Item, LARGE, Lease, Log, Scene, expect_all_going_on, parted};

tests::ours! { Virtlogd:
    logs_that_the_store_loses_are_stored_again,
    logs_go_in_again_when_a_store_is_large_again,
    logs_go_in_again_that_a_smaller_store_has_dropped,
    a_log_that_the_store_lacks_is_told_of,
    logs_with_new_names_are_not_swallowed_by_the_old_ones,
}

tests::ours! { Virtlockd:
    leases_that_the_store_loses_are_stored_again,
    leases_go_in_again_when_a_store_is_large_again,
    leases_go_in_again_that_a_smaller_store_has_dropped,
    a_lease_that_the_store_lacks_is_told_of,
    leases_with_new_names_are_not_swallowed_by_the_old_ones,
}

const COUNT: usize = 10;

fn logs_with_new_names_are_not_swallowed_by_the_old_ones(subject: Subject) {
    is_not_swallowed::<Log>(subject);
}

fn leases_with_new_names_are_not_swallowed_by_the_old_ones(subject: Subject) {
    is_not_swallowed::<Lease>(subject);
}

/// What was to be removed for libvirt's daemon stays, as nobody listens, and then everything is to be
/// stored under new names: systemd stores nothing that it has.
fn is_not_swallowed<T: Item>(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut items: Vec<T> = scene.items(COUNT);
    scene.expect_stored(&items);
    scene.supervisor.leave();
    let refused = scene.upgrade(Whose::Theirs);
    assert!(matches!(refused, Upgraded::Refused(_)), "{refused:?}");
    assert_eq!(scene.upgrade(Whose::Ours), Upgraded::Done);
    let more: Vec<T> = (0..2).map(|number| T::begin(&scene, &format!("more{number}"))).collect();
    scene.supervisor.come_back();
    items.extend(more);
    scene.expect_stored(&items);
    scene.kill_and_start();
    expect_all_going_on(&mut items);
}

fn logs_that_the_store_loses_are_stored_again(subject: Subject) {
    is_stored_again::<Log>(subject);
}

fn leases_that_the_store_loses_are_stored_again(subject: Subject) {
    is_stored_again::<Lease>(subject);
}

fn is_stored_again<T: Item>(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut items: Vec<T> = scene.items(COUNT);
    scene.expect_stored(&items);
    let moments: [fn(&mut Scene); 3] =
        [|_| (), |scene| scene.upgrade_to_current(), Scene::kill_and_start];
    for moment in moments {
        moment(&mut scene);
        scene.supervisor.clear();
        scene.expect_stored(&items);
        scene.kill_and_start();
        expect_all_going_on(&mut items);
    }
}

fn logs_go_in_again_when_a_store_is_large_again(subject: Subject) {
    goes_in_again::<Log>(subject, 14);
}

fn leases_go_in_again_when_a_store_is_large_again(subject: Subject) {
    goes_in_again::<Lease>(subject, 10);
}

fn goes_in_again<T: Item>(subject: Subject, limit: usize) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut items: Vec<T> = scene.items(COUNT);
    scene.expect_stored(&items);
    scene.supervisor.set_limit(limit);
    scene.supervisor.clear();
    let count = |scene: &Scene| items.iter().filter(|item| item.is_stored(scene)).count();
    eventually("some are stored again", || (1..COUNT).contains(&count(&scene)));
    scene.supervisor.set_limit(LARGE);
    scene.upgrade_to_current();
    scene.expect_stored(&items);
    scene.kill_and_start();
    expect_all_going_on(&mut items);
}

fn logs_go_in_again_that_a_smaller_store_has_dropped(subject: Subject) {
    what_is_dropped_goes_in_again::<Log>(subject, 14);
}

fn leases_go_in_again_that_a_smaller_store_has_dropped(subject: Subject) {
    what_is_dropped_goes_in_again::<Lease>(subject, 10);
}

/// The oldest fds are those without which nothing counts.
fn what_is_dropped_goes_in_again<T: Item>(subject: Subject, limit: usize) {
    let mut scene = Scene::begin(subject, LARGE);
    let items: Vec<T> = scene.items(COUNT);
    scene.expect_stored(&items);
    scene.supervisor.shrink(limit);
    let count = |scene: &Scene| items.iter().filter(|item| item.is_stored(scene)).count();
    eventually("some are stored again", || count(&scene) > 0);
    let said = format!("fds, and not {LARGE} as announced");
    eventually("it is noticed", || scene.daemon().stderr().contains(&said));
    let (mut stored, _) = parted(&scene, items);
    scene.kill_and_start();
    expect_all_going_on(&mut stored);
}

fn a_log_that_the_store_lacks_is_told_of(subject: Subject) {
    is_told_of::<Log>(subject, 'l', "the log ");
}

fn a_lease_that_the_store_lacks_is_told_of(subject: Subject) {
    is_told_of::<Lease>(subject, 'r', "the lease on ");
}

fn is_told_of<T: Item>(subject: Subject, letter: char, words: &str) {
    let mut scene = Scene::begin(subject, LARGE);
    let items: Vec<T> = scene.items(3);
    scene.expect_stored(&items);
    let first = scene.names(&letter.to_string()).swap_remove(0);
    scene.end(nix::sys::signal::Signal::SIGKILL, std::time::Duration::from_secs(5), || ());
    scene.supervisor.remove(&first);
    scene.spawn();
    scene.expect_serving();
    let path = scene.daemon().file("i");
    let wanted = format!("not in the fd store: {words}{}", path.display());
    scene.daemon().expect_said(&wanted);
    let said = scene.daemon().stderr();
    assert_eq!(said.matches(&wanted).count(), 1, "{wanted}: {said}");
}

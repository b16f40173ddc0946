//! Upgrades from the build before and back to it, with a store, and kills after each.

use std::path::PathBuf;

use tests::harness::{Program, Subject, Whose, left_out};
use tests::supervisor::Origin;

use crate::items::{Item, LARGE, Lease, Log, Scene, expect_all_going_on};

/// The directory of the executables of the build before.
const BEFORE: &str = "VIRT_TESTS_BEFORE";

#[test]
#[ignore = "needs the build before, in VIRT_TESTS_BEFORE"]
fn logs_go_on_with_the_build_before() {
    go_on_with_the_build_before::<Log>(Subject { whose: Whose::Ours, program: Program::Virtlogd });
}

#[test]
#[ignore = "needs the build before, in VIRT_TESTS_BEFORE"]
fn leases_go_on_with_the_build_before() {
    go_on_with_the_build_before::<Lease>(Subject {
        whose: Whose::Ours,
        program: Program::Virtlockd,
    });
}

fn go_on_with_the_build_before<T: Item>(subject: Subject) {
    let Some(before) = std::env::var_os(BEFORE).map(PathBuf::from) else {
        return left_out("upgrades from and to the build before", &format!("no {BEFORE} is set"));
    };
    let (before, now) = (Some(before), None);
    for [first, second] in [[&before, &now], [&now, &before]] {
        let origin = Origin { executables: first.clone(), ..Origin::default() };
        let mut scene = Scene::begin_from(origin, subject, LARGE);
        let mut items: Vec<T> = scene.items(5);
        scene.expect_stored(&items);
        scene.set_executables(second.as_deref());
        scene.upgrade_to_current();
        expect_all_going_on(&mut items);
        items.push(T::begin(&scene, "more"));
        scene.expect_stored(&items);
        for next in [second, first, second] {
            scene.set_executables(next.as_deref());
            scene.kill_and_start();
            expect_all_going_on(&mut items);
        }
    }
}

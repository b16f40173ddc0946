//! Keys of what is stored, after a program that was taken for libvirt's daemon, for which the store is
//! emptied.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::harness::{Program, Subject, eventually};

use crate::items::{Item, LARGE, Lease, Log, Scene, expect_all_going_on};

tests::ours! { Virtlogd: keys_of_logs_are_given_out_once }
tests::ours! { Virtlockd: keys_of_leases_are_given_out_once }

/// Shows as libvirt's daemon, and executes ours.
const DISGUISE: &str = r#"#!/bin/bash
case $1 in
--check-handover) exit 1 ;;
--version) echo "$0 (libvirt) 9.0.0" ;;
--help) echo "/run/libvirt/NAME-sock" ;;
*) exec -a "$0" REAL "$@" ;;
esac
"#;

fn keys_of_logs_are_given_out_once(subject: Subject) {
    given_out_once::<Log>(subject);
}

fn keys_of_leases_are_given_out_once(subject: Subject) {
    given_out_once::<Lease>(subject);
}

fn given_out_once<T: Item>(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut items: Vec<T> = scene.items(3);
    scene.expect_stored(&items);
    disguise(&scene, subject.program, &subject.executable().expect("checked before the test"));
    let ready = scene.supervisor.ready_count();
    scene.daemon().signal(Signal::SIGUSR1);
    eventually("it has taken over", || scene.supervisor.ready_count() > ready);
    scene.expect_serving();
    items.extend((3..6).map(|number| T::begin(&scene, &format!("i{number}"))));
    scene.expect_stored(&items);
    scene.kill_and_start();
    expect_all_going_on(&mut items);
}

fn disguise(scene: &Scene, program: Program, real: &Path) {
    let host = scene.daemon().host();
    let script = host.path("disguise");
    let real = real.to_str().expect("a path in UTF-8");
    let text = DISGUISE.replace("NAME", program.name()).replace("REAL", real);
    fs::write(&script, text).expect("writing a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("making it a program");
    host.put_file(program, &script);
}

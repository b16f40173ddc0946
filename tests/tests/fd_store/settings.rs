//! Settings of an administrator after a crash, each alone: no other, no log and no lease brings it along.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{Subject, eventually, write};
use tests::wire::Admin;

use crate::items::{LARGE, Scene, client_for};

tests::ours! { Virtlogd:
    each_servers_limits_outlive_a_crash,
    log_outputs_outlive_a_crash,
    log_filters_outlive_a_crash,
    a_timeout_outlives_a_crash,
    without_anything_to_go_on_with_a_start_may_fail,
}

mod virtlockd {
    use std::os::unix::ffi::OsStringExt;

    use tests::guest::NOBODY;
    use tests::wire::ACQUIRE_AUTOCREATE;

    use super::*;
    tests::ours! { Virtlockd:
        each_servers_limits_outlive_a_crash,
        log_outputs_outlive_a_crash,
        log_filters_outlive_a_crash,
        a_timeout_outlives_a_crash,
        lockspaces_outlive_a_crash,
        without_anything_to_go_on_with_a_start_may_fail,
    }

    /// As soon as the call was answered.
    fn lockspaces_outlive_a_crash(subject: Subject) {
        let mut scene = Scene::begin(subject, LARGE);
        let text = scene.daemon().file("space").into_os_string().into_vec();
        let no_text = [&text[..], b"\xff"].concat();
        for space in [&text, &no_text] {
            let mut client = client_for(&scene, NOBODY);
            client.create_lockspace(space).expect("a lockspace");
            scene.kill_and_start();
        }
        let mut client = client_for(&scene, NOBODY);
        for space in [&text, &no_text] {
            client.acquire(space, "lease", ACQUIRE_AUTOCREATE).expect("a lease in the lockspace");
        }
    }
}

const LOG: &str = "1:file:/var/log/libvirt/admin.log";

fn each_servers_limits_outlive_a_crash(subject: Subject) {
    let servers = [subject.program.name(), "admin"];
    for changed in servers {
        let mut scene = Scene::begin(subject, LARGE);
        let limits = |scene: &Scene| servers.map(|server| admin(scene).client_limit(server));
        let before = limits(&scene);
        admin(&scene).set_client_limit(changed, 77);
        crash(&mut scene);
        let is_changed = servers.map(|server| server == changed);
        let wanted = [0, 1].map(|index| if is_changed[index] { 77 } else { before[index] });
        assert_eq!(limits(&scene), wanted);
    }
}

fn log_outputs_outlive_a_crash(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    admin(&scene).set_outputs(LOG);
    crash(&mut scene);
    assert_eq!(admin(&scene).outputs(), LOG);
}

fn log_filters_outlive_a_crash(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    admin(&scene).set_filters("1:rpc");
    let filters = admin(&scene).filters();
    crash(&mut scene);
    assert_eq!(admin(&scene).filters(), filters);
}

fn a_timeout_outlives_a_crash(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let stays = admin(&scene);
    admin(&scene).set_timeout(1);
    crash(&mut scene);
    drop(stays);
    eventually("it ends without clients", || scene.has_ended());
}

/// As a daemon that begins. One that goes on with something serves in any case.
fn without_anything_to_go_on_with_a_start_may_fail(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let config = format!("etc/libvirt/{}.conf", subject.program.name());
    write(&scene.daemon().host().path(&config), "broken");
    scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
    scene.spawn();
    assert_eq!(scene.take_exit().code, Some(1));
}

fn admin(scene: &Scene) -> Admin {
    Admin::connect(scene.daemon())
}

/// When the setting is in the store.
fn crash(scene: &mut Scene) {
    thread::sleep(Duration::from_millis(300));
    scene.kill_and_start();
}

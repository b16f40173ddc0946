//! Who owns a log's directory is known after a crash as well.

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{CONFINEMENT, Subject, eventually, expect_file, needs_root, write};
use tests::supervisor::Origin;

use crate::items::{Item, LARGE, Log, Scene};

tests::ours! { Virtlogd:
    nobody_leads_a_log_elsewhere_with_the_help_of_a_crash,
    a_log_that_is_a_link_goes_on_after_a_crash,
}

/// Whose the directory is.
const MALLORY: u32 = 4321;

const SECRET: &str = "root's keys\n";

/// The file alone, or the directory.
fn nobody_leads_a_log_elsewhere_with_the_help_of_a_crash(subject: Subject) {
    if !needs_root("a log in somebody else's directory") {
        return;
    }
    for is_directory in [false, true] {
        let (mut scene, mut log) = begin(subject);
        let [home, vault, aside] = ["home", "vault", "aside"].map(|name| scene.daemon().file(name));
        scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
        let (place, target) = if is_directory {
            (home, vault.clone())
        } else {
            (log.path.clone(), vault.join("keys"))
        };
        fs::rename(&place, &aside).unwrap();
        link(&target, &place);
        scene.spawn();
        scene.expect_serving();
        assert!(log.write_line(), "the pipe is broken");
        let is_untouched = || {
            fs::read(vault.join("keys")).is_ok_and(|keys| keys == SECRET.as_bytes())
                && fs::read_dir(&vault).unwrap().count() == 1
        };
        eventually("it is refused, or done", || {
            scene.daemon().stderr().contains("Refused to open file") || !is_untouched()
        });
        assert!(is_untouched(), "root's directory has changed");
        fs::remove_file(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
        log.expect_going_on();
    }
}

fn a_log_that_is_a_link_goes_on_after_a_crash(subject: Subject) {
    if !needs_root("a log in somebody else's directory") {
        return;
    }
    let mut scene = Scene::begin(subject, LARGE);
    let (path, target) = (scene.daemon().file("guest.log"), scene.daemon().file("target"));
    symlink(&target, &path).unwrap();
    let mut log = Log::begin(&scene, "guest.log");
    log.expect_going_on();
    scene.expect_stored(std::slice::from_ref(&log));
    scene.kill_and_start();
    log.expect_going_on();
    expect_file(&target, &log.sent);
}

/// A log in Mallory's directory, and a directory of root's.
fn begin(subject: Subject) -> (Scene, Log) {
    let origin = Origin { preparation: CONFINEMENT.to_owned(), ..Origin::default() };
    let scene = Scene::begin_from(origin, subject, LARGE);
    let (home, vault) = (scene.daemon().file("home"), scene.daemon().file("vault"));
    fs::create_dir(&home).unwrap();
    chown(&home, Some(MALLORY), Some(MALLORY)).unwrap();
    fs::create_dir(&vault).unwrap();
    write(&vault.join("keys"), SECRET);
    let mut log = Log::begin(&scene, "home/guest.log");
    log.expect_going_on();
    scene.expect_stored(std::slice::from_ref(&log));
    (scene, log)
}

fn link(target: &Path, path: &Path) {
    symlink(target, path).unwrap();
    lchown(path, Some(MALLORY), Some(MALLORY)).unwrap();
}

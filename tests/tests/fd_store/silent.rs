//! Logs whose guests say nothing for a while when a daemon is killed.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{Subject, backup, block, expect_file, inode, unblock};
use tests::wire::Position;

use crate::items::{Item, LARGE, Log, Scene};

tests::ours! { Virtlogd:
    a_silent_log_has_its_position,
    a_path_that_a_kill_has_left_missing_is_made,
    a_log_that_cannot_be_opened_has_its_position_when_it_can,
}

/// Also right before its first output.
fn a_silent_log_has_its_position(subject: Subject) {
    let (mut scene, mut log) = begin(subject);
    let ends: [fn(&mut Scene); 2] = [Scene::kill_and_start, Scene::stop_and_start];
    for end in ends {
        end(&mut scene);
        expect_position(&scene, &log);
        log.expect_going_on();
        expect_position(&scene, &log);
    }
}

/// The rotation had only the new file left to make.
fn a_path_that_a_kill_has_left_missing_is_made(subject: Subject) {
    for guest_lives in [true, false] {
        let (mut scene, log) = begin(subject);
        scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
        fs::rename(&log.path, backup(&log.path, 0)).unwrap();
        let Log { path, pipe, sent } = log;
        let pipe = guest_lives.then_some(pipe);
        scene.spawn();
        scene.expect_serving();
        expect_file(&path, "");
        expect_file(&backup(&path, 0), sent);
        assert_eq!(scene.daemon().log_client().position(&path).is_ok(), pipe.is_some());
    }
}

fn a_log_that_cannot_be_opened_has_its_position_when_it_can(subject: Subject) {
    let (mut scene, mut log) = begin(subject);
    scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
    block(&log.path);
    scene.spawn();
    scene.expect_serving();
    unblock(&log.path);
    expect_position(&scene, &log);
    log.expect_going_on();
}

fn begin(subject: Subject) -> (Scene, Log) {
    let scene = Scene::begin(subject, LARGE);
    let mut log = Log::begin(&scene, "log");
    log.expect_going_on();
    scene.expect_stored(std::slice::from_ref(&log));
    (scene, log)
}

#[track_caller]
fn expect_position(scene: &Scene, log: &Log) {
    let wanted = Position { inode: inode(&log.path), offset: log.sent.len() as u64 };
    let position = || scene.daemon().log_client().position(&log.path);
    assert_eq!(position(), Ok(wanted));
}

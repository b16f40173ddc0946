//! Guests that keep their pipes locked, beside an fd store: neither the next process nor the supervisor may
//! do anything to such a pipe that waits for the guest.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{PipeLock, Subject, eventually, expect_file};

use crate::items::{Item, LARGE, Log, Scene, expect_all_going_on};

tests::ours! { Virtlogd:
    pipes_that_are_locked_at_a_kill_are_adopted,
    a_log_that_ends_is_closed_when_the_supervisor_has_closed_it,
    a_log_that_ends_is_closed_although_the_store_took_no_question,
}

fn pipes_that_are_locked_at_a_kill_are_adopted(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut logs: Vec<Log> = scene.items(6);
    scene.expect_stored(&logs);
    let mut held: Vec<_> = logs.drain(..3).collect();
    scene.daemon().signal(Signal::SIGSTOP);
    let locks = held.iter_mut().map(|log| {
        log.write_line();
        PipeLock::begin(&log.pipe)
    });
    let locks: Vec<_> = locks.collect();
    scene.end(Signal::SIGKILL, Duration::from_secs(5), || ());
    scene.spawn();
    scene.expect_serving();
    for _ in 0..5 {
        expect_all_going_on(&mut logs);
    }
    drop(Log::begin(&scene, "another"));
    for (lock, log) in locks.into_iter().zip(&mut held) {
        lock.let_go("last words\n");
        log.sent.push_str("last words\n");
        expect_file(&log.path, &log.sent);
    }
    expect_all_going_on(&mut held);
}

/// Whoever closes the last fd of a pipe waits for whoever has it locked: that is never the supervisor.
fn a_log_that_ends_is_closed_when_the_supervisor_has_closed_it(subject: Subject) {
    let scene = Scene::begin(subject, LARGE);
    let mut logs: Vec<Log> = scene.items(2);
    scene.expect_stored(&logs);
    let Log { mut pipe, path, sent } = logs.swap_remove(0);
    let inode = pipe.metadata().unwrap().ino();
    scene.supervisor.pause();
    pipe.write_all(b"the end\n").unwrap();
    drop(pipe);
    expect_file(&path, sent + "the end\n");
    // It has ended long before.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(scene.daemon().descriptors_of_pipe(inode), 1);
    scene.supervisor.go_on();
    eventually("it is closed", || scene.daemon().descriptors_of_pipe(inode) == 0);
    expect_all_going_on(&mut logs);
}

fn a_log_that_ends_is_closed_although_the_store_took_no_question(subject: Subject) {
    let scene = Scene::begin(subject, LARGE);
    let mut logs: Vec<Log> = scene.items(2);
    scene.expect_stored(&logs);
    let Log { pipe, path, sent } = logs.swap_remove(0);
    let inode = pipe.metadata().unwrap().ino();
    scene.supervisor.set_limit(0);
    let refused = scene.supervisor.refused();
    drop(pipe);
    eventually("the question is refused", || scene.supervisor.refused() > refused);
    scene.supervisor.set_limit(LARGE);
    eventually("it is closed", || scene.daemon().descriptors_of_pipe(inode) == 0);
    expect_file(&path, sent);
    expect_all_going_on(&mut logs);
}

//! What a process has taken out of a guest's pipe and not yet written when it is killed, where the
//! store has no pipe for it: it is in the file, or told as lost, to the byte.

use std::fs;
use std::io::Write;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{
    PipeLock, SlowFiles, Subject, can_hang, eventually, expect_losses, slow_files,
};
use tests::supervisor::Origin;

use crate::items::{Item, LARGE, Log, Scene};

tests::ours! { Virtlogd:
    what_is_in_hand_at_a_kill_is_written_or_told,
    beside_a_guest_that_locks_its_pipe_others_lose_nothing,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// When the kill comes: before the write has begun, while it lasts, and when it is over.
const KILLED_AFTER_MS: [u64; 6] = [0, 3, 20, 45, 70, 150];

fn what_is_in_hand_at_a_kill_is_written_or_told(subject: Subject) {
    if !can_hang("a kill beside a disk that is slow") {
        return;
    }
    let origin = Origin { preparation: slow_files(SERVER), ..Origin::default() };
    let mut scene = Scene::begin_from(origin, subject, LARGE);
    let mut log = Log::begin(&scene, "slow/log");
    log.write_line();
    expect_file_of(&scene, &log, "log");
    scene.expect_stored(std::slice::from_ref(&log));
    let mut losses = 0;
    for after_ms in KILLED_AFTER_MS {
        scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
        refuse_pipes(&scene);
        scene.spawn();
        scene.expect_serving();
        // The turn that follows an adoption is over with that.
        log.write_line();
        expect_file_of(&scene, &log, "log");
        let slow = SlowFiles::of(&scene.daemon().host());
        slow.say("delay-us 60000\n");
        for _ in 0..40 {
            log.write_line();
        }
        std::thread::sleep(Duration::from_millis(after_ms));
        scene.end(Signal::SIGKILL, Duration::from_secs(10), || slow.say(""));
        slow.say("");
        scene.spawn();
        scene.expect_serving();
        write_the_end(&mut log);
        losses += expect_file_of(&scene, &log, "log");
    }
    assert!(losses > 0, "no kill has met bytes in hand");
}

/// For a while after a guest has locked its pipe the bytes of all are taken by jobs of their own. They are
/// not taken into pipes that a kill would end.
fn beside_a_guest_that_locks_its_pipe_others_lose_nothing(subject: Subject) {
    if !can_hang("a kill beside a disk that is slow") {
        return;
    }
    let origin = Origin { preparation: slow_files(SERVER), ..Origin::default() };
    let mut scene = Scene::begin_from(origin, subject, LARGE);
    let mut logs: Vec<_> =
        (0..8).map(|number| Log::begin(&scene, &format!("slow/{number}"))).collect();
    let mut hostile = Log::begin(&scene, "hostile");
    scene.expect_stored(&logs);
    scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
    refuse_pipes(&scene);
    scene.spawn();
    scene.expect_serving();
    let lock = lock(&scene, &mut hostile);
    let slow = SlowFiles::of(&scene.daemon().host());
    slow.say("delay-us 60000\n");
    logs.iter_mut().for_each(|log| assert!(log.write_line()));
    std::thread::sleep(Duration::from_millis(300));
    scene.end(Signal::SIGKILL, Duration::from_secs(10), || {
        slow.say("");
        lock.let_go("");
    });
    slow.say("");
    scene.spawn();
    scene.expect_serving();
    for (number, log) in logs.iter_mut().enumerate() {
        write_the_end(log);
        assert_eq!(expect_file_of(&scene, log, &number.to_string()), 0, "log {number} has a loss");
    }
}

fn write_the_end(log: &mut Log) {
    log.pipe.write_all(b"the end\n").expect("the guest can write");
    log.sent.push_str("the end\n");
}

/// Has a guest keep its pipe locked while a job takes bytes out of it, until that is noticed.
fn lock(scene: &Scene, hostile: &mut Log) -> PipeLock {
    let states = || scene.daemon().thread_states();
    scene.daemon().signal(Signal::SIGSTOP);
    eventually("all threads have stopped", || states().iter().all(|state| *state == 'T'));
    hostile.write_line();
    let lock = PipeLock::begin(&hostile.pipe);
    scene.daemon().signal(Signal::SIGCONT);
    eventually("a job waits for the pipe", || states().contains(&'D'));
    std::thread::sleep(Duration::from_millis(300));
    lock
}

/// The store keeps what it has, but for staging pipes, and takes no others.
fn refuse_pipes(scene: &Scene) {
    scene.supervisor.catch_up();
    for name in scene.names("p") {
        scene.supervisor.remove(&name);
    }
    scene.supervisor.set_limit(scene.supervisor.stored().len() + 1);
}

/// The file says all that was sent; gives how many losses it tells of.
fn expect_file_of(scene: &Scene, log: &Log, name: &str) -> usize {
    let backing = scene.daemon().file(&format!("backing/{name}"));
    let end = log.sent.lines().last().unwrap_or_default();
    eventually("the last line is written", || {
        fs::read_to_string(&backing).is_ok_and(|text| text.ends_with(&format!("{end}\n")))
    });
    expect_losses(&fs::read(backing).expect("the log"), log.sent.as_bytes())
}

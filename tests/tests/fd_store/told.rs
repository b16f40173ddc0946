//! A loss that is being told to a log at the moment of a kill: it is told once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::sys::pipe;
use nix::sys::signal::Signal;
use tests::harness::{
    SlowFiles, Subject, can_hang, eventually, expect_losses, guest_writes, slow_files,
};
use tests::supervisor::Origin;

use crate::items::{Item, LARGE, Log, Scene};

tests::ours! { Virtlogd:
    a_loss_is_told_once_although_a_kill_comes_behind_it,
    a_loss_is_told_once_although_a_kill_comes_behind_its_beginning,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// More than the pipes of a log hold.
const MUCH: usize = 300_000;

/// What only the line about a loss has in it.
const WORDS: &[u8] = b": virtlogd: ";

fn a_loss_is_told_once_although_a_kill_comes_behind_it(subject: Subject) {
    let Some((mut scene, mut log, slow)) = begin(subject) else { return };
    lose(&scene, &mut log, &slow);
    // Each request takes so long, and what the guest writes next comes right behind the line.
    slow.say("delay-us 50000\n");
    send(&mut log, b"behind it\n");
    let backing = slow.backing("log");
    eventually("the loss is told", || has_whole_line(&backing));
    expect_told_once(&mut scene, log, &slow);
}

/// There is room for a part of the line only.
fn a_loss_is_told_once_although_a_kill_comes_behind_its_beginning(subject: Subject) {
    let Some((mut scene, mut log, slow)) = begin(subject) else { return };
    lose(&scene, &mut log, &slow);
    let backing = slow.backing("log");
    // What is kept comes first.
    slow.say(&format!("room {}\ndelay-us 50000\n", kept_bytes(&scene) + 100));
    eventually("the loss is begun to be told", || has_words(&backing));
    assert!(!has_whole_line(&backing));
    expect_told_once(&mut scene, log, &slow);
}

fn begin(subject: Subject) -> Option<(Scene, Log, SlowFiles)> {
    if !can_hang("a kill beside a disk that is full") {
        return None;
    }
    let origin = Origin { preparation: slow_files(SERVER), ..Origin::default() };
    let scene = Scene::begin_from(origin, subject, LARGE);
    let mut log = Log::begin(&scene, "slow/log");
    log.write_line();
    scene.expect_stored(std::slice::from_ref(&log));
    let slow = SlowFiles::of(&scene.daemon().host());
    Some((scene, log, slow))
}

/// The disk is full, and more comes than can be kept.
fn lose(scene: &Scene, log: &mut Log, slow: &SlowFiles) {
    slow.say("room 0\n");
    send(log, "lost, or kept\n".repeat(MUCH / 14).as_bytes());
    eventually("something is lost", || scene.daemon().stderr().contains("is being lost"));
    std::thread::sleep(Duration::from_millis(300));
}

/// Bytes in the pipes that the store has, each of which is there with both ends.
fn kept_bytes(scene: &Scene) -> usize {
    let stored = scene.supervisor.stored().into_iter();
    let pipes = stored.filter(|stored| stored.name.starts_with('p'));
    let bytes = pipes.map(|stored| pipe::readable_bytes(&stored.fd).unwrap());
    bytes.sum::<usize>() / 2
}

fn send(log: &mut Log, bytes: &[u8]) {
    guest_writes(&log.pipe, bytes);
    log.sent.push_str(str::from_utf8(bytes).unwrap());
}

/// Other processes go on with the log.
#[track_caller]
fn expect_told_once(scene: &mut Scene, mut log: Log, slow: &SlowFiles) {
    scene.end(Signal::SIGKILL, Duration::from_secs(10), || slow.say(""));
    slow.say("");
    scene.spawn();
    scene.expect_serving();
    let backing = slow.backing("log");
    let nexts: [fn(&mut Scene); 3] =
        [|_| (), |scene| scene.upgrade_to_current(), Scene::kill_and_start];
    for (number, next) in nexts.into_iter().enumerate() {
        next(scene);
        let line = format!("process {number}\n");
        send(&mut log, line.as_bytes());
        let text = || fs::read(&backing).unwrap();
        eventually("the last line is written", || text().ends_with(line.as_bytes()));
        assert_eq!(expect_losses(&text(), log.sent.as_bytes()), 1);
    }
}

fn has_words(path: &Path) -> bool {
    fs::read(path).unwrap().windows(WORDS.len()).any(|window| window == WORDS)
}

fn has_whole_line(path: &Path) -> bool {
    let text = fs::read(path).unwrap();
    let told = text.windows(WORDS.len()).position(|window| window == WORDS);
    told.is_some_and(|told| text[told..].contains(&b'\n'))
}

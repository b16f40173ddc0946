//! After a crash logs are on the disks that they were on before: one that hangs holds up its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{SlowFiles, Subject, can_hang, expect_file, guest_writes, slow_files};
use tests::supervisor::Origin;

use crate::items::{Item, LARGE, Log, Scene, expect_all_going_on};

tests::ours! { Virtlogd:
    logs_that_were_silent_since_a_crash_do_not_share_a_disk,
    a_disk_with_many_directories_that_hangs_at_the_start_holds_up_no_other,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// More than there are threads.
const DIRECTORIES: usize = 100;

/// More than a log's pipes hold.
const LINES: usize = 60_000;

/// Longer than a daemon may take to come up, and to end.
const HANG: &str = "delay-us 30000000\n";

/// Behind the mount, which needs the file system.
const HANG_FROM_THE_START: &str = r#"
if [ -e "$1/hang" ]; then mv "$1/hang" "$1/disk"; fi
"#;

fn begin(subject: Subject) -> Option<Scene> {
    if !can_hang("a crash beside a disk that hangs") {
        return None;
    }
    let preparation = slow_files(SERVER) + HANG_FROM_THE_START;
    let origin = Origin { preparation, ..Origin::default() };
    Some(Scene::begin_from(origin, subject, 4 * LARGE))
}

fn logs_that_were_silent_since_a_crash_do_not_share_a_disk(subject: Subject) {
    let Some(mut scene) = begin(subject) else { return };
    let hanging = Log::begin(&scene, "slow/a.log");
    let mut others: Vec<Log> = scene.items(3);
    scene.expect_stored(&others);
    scene.kill_and_start();
    let slow = SlowFiles::of(&scene.daemon().host());
    slow.stop();
    guest_writes(&hanging.pipe, "x".repeat(200_000));
    for log in &mut others {
        let text: String = (0..LINES).map(|line| format!("{line}\n")).collect();
        guest_writes(&log.pipe, text.clone());
        log.sent.push_str(&text);
        expect_file(&log.path, &log.sent);
    }
    slow.go_on();
}

/// One of them by way of a symbolic link, as where `/var/lib/nova/instances` is one.
fn a_disk_with_many_directories_that_hangs_at_the_start_holds_up_no_other(subject: Subject) {
    let Some(mut scene) = begin(subject) else { return };
    let mut hanging = Vec::new();
    fs::create_dir(scene.daemon().file("links")).expect("a directory");
    for number in 0..DIRECTORIES {
        let backing = scene.daemon().file("backing").join(format!("d{number}"));
        fs::create_dir(backing).expect("a directory on the slow disk");
        let link = scene.daemon().file(&format!("links/{number}"));
        symlink(scene.daemon().file(&format!("slow/d{number}")), link).expect("a link");
        hanging.push(Log::begin(&scene, &format!("links/{number}/a.log")));
        hanging.push(Log::begin(&scene, &format!("slow/d{number}/b.log")));
    }
    let mut others: Vec<Log> = scene.items(3);
    expect_all_going_on(&mut others);
    scene.expect_stored(&others);
    fs::write(scene.daemon().host().path("hang"), HANG).expect("a file for the file system");
    scene.end(Signal::SIGKILL, Duration::from_secs(10), || ());
    for log in &hanging {
        guest_writes(&log.pipe, "line\n".to_owned());
    }
    scene.spawn();
    scene.expect_serving();
    for _ in 0..10 {
        expect_all_going_on(&mut others);
    }
    let opened = Log::begin(&scene, "new.log");
    guest_writes(&opened.pipe, "line\n".to_owned());
    expect_file(&opened.path, "line\n");
}

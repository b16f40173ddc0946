//! virtlogd removing logs of guests that are long gone. libvirt's 9.0.0 has no cleaner.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tests::harness::{
    Daemon, SlowFiles, Subject, backup, can_hang, eventually, eventually_within, expect_file,
    expect_missing, needs_root, size, write,
};
use tests::wire::OpenLog;

tests::ours! { Virtlogd:
    old_logs_go_and_open_ones_stay,
    logs_to_which_somebody_else_has_led_stay,
    logs_that_are_opened_while_others_go_stay,
    no_guest_waits_for_a_whole_pass,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// The first pass comes ten seconds after the start.
const FIRST_PASS_DEADLINE: Duration = Duration::from_secs(120);

/// Old logs on a disk that takes a while to look at each and to delete it.
const OLD_LOGS: usize = 100;

fn old_logs_go_and_open_ones_stay(subject: Subject) {
    let setup = subject.setup();
    let host = setup.host();
    let (gone, young, open) =
        (host.file("gone.log"), host.file("young.log"), host.file("open.log"));
    for path in [&gone, &young, &open] {
        write_old(path);
        write_old(&backup(path, 0));
    }
    write(&young, "of today");
    let root = host.path("files");
    let config = format!("max_age_days = 1\nlog_root = \"{}/\"\n", root.display());
    let daemon = setup.config(&config).start();
    let _log = daemon.log_client().open(&open).unwrap();
    assert!(eventually_within(FIRST_PASS_DEADLINE, || !gone.exists()));
    expect_missing(&backup(&gone, 0));
    expect_file(&young, "of today");
    expect_file(&backup(&young, 0), "old");
    expect_file(&open, "old");
    expect_file(&backup(&open, 0), "old");
}

fn logs_to_which_somebody_else_has_led_stay(subject: Subject) {
    if !needs_root("somebody else's link") {
        return;
    }
    let setup = subject.setup();
    let host = setup.host();
    let (root, log) = (host.file("root"), host.file("gone.log"));
    write_old(&log);
    symlink(host.path("files"), &root).unwrap();
    lchown(&root, Some(4321), Some(4321)).unwrap();
    let config = format!("max_age_days = 1\nlog_root = \"{}\"\n", root.display());
    let daemon = setup.config(&config).confined().start();
    let said = format!("Unable to look for old logs in {}", root.display());
    let is_over = || !log.exists() || daemon.stderr().contains(&said);
    assert!(eventually_within(FIRST_PASS_DEADLINE, is_over));
    expect_file(&log, "old");
}

fn logs_that_are_opened_while_others_go_stay(subject: Subject) {
    let Some((daemon, logs)) = start_with_old_logs(subject, "/") else { return };
    let mut client = daemon.log_client();
    let mut opened: Vec<(&Path, OpenLog, u64)> = Vec::new();
    for (path, backing) in logs.iter().filter(|(_, backing)| backing.exists()) {
        let mut log = client.open(path).unwrap();
        log.pipe.write_all(b"of today").unwrap();
        opened.push((backing, log, client.position(path).unwrap().offset));
    }
    let is_open = |backing: &Path| opened.iter().any(|(it, ..)| *it == backing);
    let others = logs.iter().filter(|(_, backing)| !is_open(backing));
    let others: Vec<_> = others.map(|(_, backing)| backing).collect();
    eventually("all others are gone", || others.iter().all(|backing| !backing.exists()));
    assert!(!others.is_empty() && !opened.is_empty(), "no log was opened while others went");
    for (backing, _log, offset) in &opened {
        assert!(fs::read(backing).is_ok_and(|found| found.ends_with(b"of today")));
        assert_eq!(size(backing), Some(*offset));
    }
}

/// Also if its directory is the very one that is cleaned.
fn no_guest_waits_for_a_whole_pass(subject: Subject) {
    let Some((daemon, logs)) = start_with_old_logs(subject, "") else { return };
    let begun = Instant::now();
    daemon.log_client().open(&daemon.file("slow/new.log")).unwrap();
    let took = begun.elapsed();
    assert!(logs.iter().any(|(_, backing)| backing.exists()), "it has waited for {took:?}");
}

/// Gives the paths of old logs, and where they really are, when the first of them has gone.
fn start_with_old_logs(subject: Subject, slash: &str) -> Option<(Daemon, Vec<(PathBuf, PathBuf)>)> {
    if !can_hang("cleaning a disk that is slow") {
        return None;
    }
    let setup = subject.setup();
    let host = setup.host();
    fs::create_dir(host.file("backing")).unwrap();
    let names = (0..OLD_LOGS).map(|number| format!("{number}.log"));
    let logs = names.map(|name| (host.file("slow").join(&name), host.file("backing").join(&name)));
    let logs: Vec<_> = logs.collect();
    logs.iter().for_each(|(_, backing)| write_old(backing));
    let root = host.file("slow");
    let config = format!("max_age_days = 1\nlog_root = \"{}{slash}\"\n", root.display());
    let daemon = setup.config(&config).with_slow_files(SERVER).start();
    SlowFiles::of(&host).say("delay-us 3000\n");
    let has_begun = || logs.iter().any(|(_, backing)| !backing.exists());
    assert!(eventually_within(FIRST_PASS_DEADLINE, has_begun));
    Some((daemon, logs))
}

fn write_old(path: &Path) {
    write(path, "old");
    let three_days = Duration::from_secs(3 * 24 * 60 * 60);
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - three_days).unwrap();
}

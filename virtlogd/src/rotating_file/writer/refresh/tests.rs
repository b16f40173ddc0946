use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::super::super::Limits;
use super::super::tests::{Log, append};
use super::*;

/// A log in a directory that can be moved.
fn in_directory(log: &Log) -> (RotatingFile, [PathBuf; 2]) {
    let directories = ["logs", "moved"].map(|name| log.dir.path().join(name));
    fs::create_dir(&directories[0]).unwrap();
    let limits = Limits { size_bytes_max: 10, backups_max: 2 };
    (RotatingFile::open(directories[0].join("log"), limits, false).unwrap(), directories)
}

#[test]
fn a_file_moved_with_its_directory_is_gone_on_with_until_that_is_back() {
    let log = Log::new();
    let (mut file, [logs, moved]) = in_directory(&log);
    append(&mut file, b"first\n").unwrap();
    fs::rename(&logs, &moved).unwrap();
    file.refresh().unwrap();
    append(&mut file, b"second\nthird\nfourth\n").unwrap();
    assert!(file.is_detached() && file.is_at_line_start());
    append(&mut file, b"no end").unwrap();
    assert!(!file.is_at_line_start());
    assert_eq!(fs::read(moved.join("log")).unwrap(), b"first\nsecond\nthird\nfourth\nno end");
    fs::rename(&moved, &logs).unwrap();
    file.refresh().unwrap();
    assert!(!file.is_detached());
    append(&mut file, b"x").unwrap();
    assert_eq!(fs::read(logs.join("log")).unwrap(), b"x", "it was full all the time");
    assert!(logs.join("log.0").exists());
}

#[test]
fn whatever_bars_the_way_to_the_directory_the_file_is_gone_on_with() {
    let log = Log::new();
    let (mut file, [logs, moved]) = in_directory(&log);
    fs::rename(&logs, &moved).unwrap();
    for bar in [|path: &Path| fs::write(path, "a file"), |path: &Path| symlink(path, path)] {
        bar(&logs).unwrap();
        file.refresh().unwrap();
        assert!(file.is_detached());
        append(&mut file, b"x").unwrap();
        fs::remove_file(&logs).unwrap();
    }
    assert_eq!(fs::read(moved.join("log")).unwrap(), b"xx");
}

#[test]
fn a_log_that_is_a_link_is_gone_on_with_when_its_targets_directory_is_moved() {
    let log = Log::new();
    let [logs, moved] = ["logs", "moved"].map(|name| log.dir.path().join(name));
    fs::create_dir(&logs).unwrap();
    symlink(logs.join("target"), &log.path).unwrap();
    let mut file = log.open(100, 1);
    fs::rename(&logs, &moved).unwrap();
    file.refresh().unwrap();
    append(&mut file, b"text").unwrap();
    assert_eq!(fs::read(moved.join("target")).unwrap(), b"text");
}

#[test]
fn a_dangling_link_in_the_logs_place_is_no_missing_directory() {
    let log = Log::new();
    let mut file = log.open(100, 1);
    fs::rename(&log.path, log.dir.path().join("aside")).unwrap();
    symlink("/none/x", &log.path).unwrap();
    file.refresh().unwrap_err();
    assert!(!file.is_detached());
}

#[test]
fn a_rotation_is_ended_when_the_directory_is_back() {
    for left in 0..=2 {
        let log = Log::new();
        let (mut file, [logs, moved]) = in_directory(&log);
        append(&mut file, b"0123456789").unwrap();
        file.rotation_steps_left = Some(left);
        if left == 0 {
            fs::rename(logs.join("log"), logs.join("log.0")).unwrap();
        }
        fs::rename(&logs, &moved).unwrap();
        file.refresh().unwrap();
        append(&mut file, b"abc").unwrap();
        fs::rename(&moved, &logs).unwrap();
        file.refresh().unwrap();
        append(&mut file, b"x").unwrap();
        let [older, newest] = ["log.0", "log"].map(|name| fs::read(logs.join(name)).unwrap());
        assert_eq!((&older[..], &newest[..]), (&b"0123456789abc"[..], &b"x"[..]), "{left}");
    }
}

#[test]
fn a_new_directory_has_a_new_file() {
    let log = Log::new();
    let (mut file, [logs, moved]) = in_directory(&log);
    fs::rename(&logs, &moved).unwrap();
    file.refresh().unwrap();
    append(&mut file, b"first").unwrap();
    fs::create_dir(&logs).unwrap();
    file.refresh().unwrap();
    append(&mut file, b"second").unwrap();
    assert!(!file.is_detached());
    let [old, new] = [moved, logs].map(|directory| fs::read(directory.join("log")).unwrap());
    assert_eq!([old, new], [b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn a_file_removed_with_its_directory_is_not_gone_on_with() {
    let log = Log::new();
    let (mut file, [logs, _]) = in_directory(&log);
    fs::remove_dir_all(&logs).unwrap();
    assert_eq!(file.refresh().unwrap_err().errno(), Some(Errno::ENOENT as i32));
    assert!(!file.is_detached());
}

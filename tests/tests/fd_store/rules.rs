//! Rules of `virtlogd.toml` after a crash.

use std::fs;
use std::io::Write;

use tests::harness::{Subject, backup, eventually, expect_losses, guest_writes, size, write};

use crate::items::{LARGE, Scene};

tests::ours! { Virtlogd:
    a_broken_file_leaves_the_rules_that_held,
    what_was_dropped_over_a_cap_is_told_of,
}

const RULE: &str = "[[rule]]\npath = '**'\nmax_size = 100\nmax_backups = 1\n";

/// Nobody has checked the file before the process that finds it broken was needed.
fn a_broken_file_leaves_the_rules_that_held(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let rules = scene.daemon().host().path("etc/libvirt/virtlogd.toml");
    fs::create_dir_all(rules.parent().unwrap()).unwrap();
    write(&rules, RULE);
    scene.upgrade_to_current();
    let path = scene.daemon().host().file("a.log");
    let mut log = scene.daemon().log_client().open(&path).unwrap();
    write(&rules, "nonsense");
    scene.kill_and_start();
    log.pipe.write_all(&[b'x'; 150]).unwrap();
    eventually("the log is rotated", || {
        size(&path) == Some(50) && size(&backup(&path, 0)) == Some(100)
    });
}

/// The line is due some seconds after the flood, and a kill comes before.
fn what_was_dropped_over_a_cap_is_told_of(subject: Subject) {
    const CAP: &str = "[[rule]]\npath = '**'\nmax_size = 0\nrate = 65536\nburst = 131072\n";
    let mut scene = Scene::begin(subject, LARGE);
    let rules = scene.daemon().host().path("etc/libvirt/virtlogd.toml");
    fs::create_dir_all(rules.parent().unwrap()).unwrap();
    write(&rules, CAP);
    scene.upgrade_to_current();
    let path = scene.daemon().host().file("a.log");
    let log = scene.daemon().log_client().open(&path).unwrap();
    let sent: Vec<u8> = (0..40_000).flat_map(|line| format!("{line:099}\n").into_bytes()).collect();
    guest_writes(&log.pipe, sent.clone());
    scene.daemon().log_client().position(&path).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("bytes of this log were lost"));
    scene.kill_and_start();
    eventually("it is told", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("bytes of this log were lost"))
    });
    assert_eq!(expect_losses(&fs::read(&path).unwrap(), &sent), 1);
}

//! Rules of `virtlogd.toml` after a crash.

use std::fs;
use std::io::Write;

use tests::harness::{Subject, backup, eventually, size, write};

use crate::items::{LARGE, Scene};

tests::ours! { Virtlogd:
    a_broken_file_leaves_the_rules_that_held,
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

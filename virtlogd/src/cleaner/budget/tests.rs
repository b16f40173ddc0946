use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::rotating_file::{Limits, RotatingFile};

const KIB: u64 = 1024;

/// A directory in which each file takes 64 KiB.
struct Tree(TempDir);

impl Tree {
    fn new(names: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        names.iter().for_each(|name| tree.file(name));
        tree
    }

    fn file(&self, name: &str) {
        fs::write(self.0.path().join(name), vec![b'x'; 65_536]).unwrap();
    }

    fn budget(&self, kib_max: u64) -> Budget {
        let path = self.0.path().to_owned();
        Budget { path, bytes_max: Some(kib_max * KIB), free_bytes_min: None }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn the_highest_numbers_go_first_and_no_more_than_has_to() {
    let tree =
        Tree::new(&["a.log", "a.log.0", "a.log.1", "b.log", "b.log.0", "b.log.1", "b.log.2"]);
    assert_eq!(tree.budget(448).keep(&[]).unwrap(), Kept::default());
    assert_eq!(tree.budget(390).keep(&[]).unwrap(), Kept { removed: 1, ..Kept::default() });
    assert_eq!(tree.names(), ["a.log", "a.log.0", "a.log.1", "b.log", "b.log.0", "b.log.1"]);
    assert_eq!(tree.budget(256).keep(&[]).unwrap().removed, 2);
    assert_eq!(tree.names(), ["a.log", "a.log.0", "b.log", "b.log.0"]);
}

#[test]
fn open_logs_lose_older_parts_last_and_logs_stay() {
    let tree = Tree::new(&["a.log", "a.log.0", "a.log.1", "b.log", "b.log.0"]);
    let open = [tree.0.path().join("a.log")];
    assert_eq!(tree.budget(256).keep(&open).unwrap().removed, 1);
    assert_eq!(tree.names(), ["a.log", "a.log.0", "a.log.1", "b.log"]);
    assert_eq!(tree.budget(192).keep(&open).unwrap().removed, 1);
    assert_eq!(tree.names(), ["a.log", "a.log.0", "b.log"]);
    let kept = tree.budget(1).keep(&open).unwrap();
    assert_eq!(kept, Kept { removed: 1, is_exhausted: true, ..Kept::default() });
    assert_eq!(tree.names(), ["a.log", "b.log"]);
}

#[test]
fn a_log_is_known_as_open_by_its_file_too() {
    let tree = Tree::new(&["a.log.0", "b.log.0"]);
    let limits = Limits { size_bytes_max: 0, backups_max: 1 };
    let _log = RotatingFile::open(tree.0.path().join("b.log"), limits, false).unwrap();
    assert_eq!(tree.budget(64).keep(&[]).unwrap().removed, 1);
    assert_eq!(tree.names(), ["b.log", "b.log.0"]);
}

#[test]
fn what_is_no_part_of_a_log_is_neither_counted_nor_removed() {
    let tree = Tree::new(&["a.log.0", "a.log.x", "b.1", "c.log.0.gz"]);
    fs::create_dir(tree.0.path().join("d.log.0")).unwrap();
    symlink(tree.0.path().join("b.1"), tree.0.path().join("e.log.0")).unwrap();
    assert_eq!(tree.budget(64).keep(&[]).unwrap(), Kept::default());
    assert_eq!(tree.budget(0).keep(&[]).unwrap().removed, 1);
    assert_eq!(tree.names(), ["a.log.x", "b.1", "c.log.0.gz", "d.log.0", "e.log.0"]);
}

#[test]
fn below_a_part_that_stays_none_goes() {
    let tree = Tree::new(&["a.log.0", "a.log.1", "a.log.2"]);
    fs::hard_link(tree.0.path().join("a.log.1"), tree.0.path().join("other")).unwrap();
    let kept = tree.budget(0).keep(&[]).unwrap();
    assert_eq!(kept, Kept { removed: 1, is_exhausted: true, ..Kept::default() });
    assert_eq!(tree.names(), ["a.log.0", "a.log.1", "other"]);
}

#[test]
fn a_floor_of_free_space_takes_older_parts_too() {
    let tree = Tree::new(&["a.log", "a.log.0", "a.log.1"]);
    let floor = |free_bytes_min| Budget {
        free_bytes_min: Some(free_bytes_min),
        bytes_max: None,
        ..tree.budget(0)
    };
    assert_eq!(floor(1).keep(&[]).unwrap(), Kept::default());
    let kept = floor(u64::MAX).keep(&[]).unwrap();
    assert_eq!(kept, Kept { removed: 2, is_low: true, is_exhausted: true, has_more: false });
    assert_eq!(tree.names(), ["a.log"]);
}

#[test]
fn a_turn_removes_so_many() {
    let names: Vec<_> = (0..100).map(|number| format!("a.log.{number}")).collect();
    let tree = Tree::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let kept = tree.budget(0).keep(&[]).unwrap();
    assert!(kept.removed == REMOVALS_MAX && kept.has_more && !kept.is_exhausted);
    assert_eq!(tree.budget(0).keep(&[]).unwrap().removed, 36);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let tree = Tree::new(&[]);
    let budget = Budget { path: tree.0.path().join("none"), ..tree.budget(1) };
    assert_eq!(budget.keep(&[]).unwrap_err().kind(), io::ErrorKind::NotFound);
}

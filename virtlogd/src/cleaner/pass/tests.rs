use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::rotating_file::{Bytes, Limits, RotatingFile};

const AGE_DAYS_MAX: u64 = 10;

/// A tree of logs, and a time to look at it.
struct Tree {
    dir: TempDir,
    now: SystemTime,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/qemu/deeper")).unwrap();
        Self { dir, now: UNIX_EPOCH + Duration::from_secs(1_000 * DAY_S) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, age_days: u64) {
        let file = File::create(self.path(name)).unwrap();
        file.set_modified(self.now - Duration::from_secs(age_days * DAY_S)).unwrap();
    }

    fn clean(&self, open: &[PathBuf]) -> Summary {
        clean(&self.path("root"), AGE_DAYS_MAX, &|_| 3, self.now, open)
    }

    /// Cleans the root alone; `meanwhile` happens between a look at it and the first deletion.
    fn clean_root(&self, meanwhile: impl FnOnce()) -> Summary {
        self.clean_one("root", meanwhile)
    }

    /// Cleans this directory alone.
    fn clean_one(&self, name: &str, meanwhile: impl FnOnce()) -> Summary {
        let oldest_mtime_s = unix_time_s(self.now) - 10 * 86_400;
        let policy = Policy { oldest_mtime_s, backups_max: 3 };
        let mut summary = Summary::default();
        let open = Heads::of(&[]);
        let mut pass = Pass { oldest_mtime_s, backups_max: &|_| 3, open, summary: &mut summary };
        let path = self.path(name);
        let directory = Directory::open(&path).unwrap();
        let (chains, _) = pass.look(&directory, &path);
        meanwhile();
        let condemned = chains.unwrap().condemned(|_| policy);
        condemned.for_each(|chain| pass.delete_chain(&directory, &path, &chain));
        summary
    }

    /// A log that can be written to.
    fn log(&self, name: &str, truncate: bool) -> RotatingFile {
        let limits = Limits { size_bytes_max: 100, backups_max: 3 };
        RotatingFile::open(self.path(name), limits, truncate).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

#[test]
fn old_chains_go_and_everything_else_stays() {
    let tree = Tree::new();
    for name in ["root/a.log", "root/qemu/b.log", "root/qemu/b.log.0", "root/qemu/c.log.0"] {
        tree.file(name, 20);
    }
    let kept = ["root/qemu/c.log", "root/a.txt", "root/qemu/deeper/d.log", "a.log"];
    tree.file("root/qemu/c.log", 9);
    for name in &kept[1..] {
        tree.file(name, 20);
    }
    assert_eq!(tree.clean(&[]), Summary { deleted: 3, ..Summary::default() });
    assert!(kept.iter().all(|name| tree.has(name)));
    assert!(tree.has("root/qemu/c.log.0") && !tree.has("root/qemu/b.log.0"));
}

#[test]
fn without_an_age_nothing_is_done() {
    let tree = Tree::new();
    tree.file("root/a.log.9", 20);
    assert_eq!(clean(&tree.path("root"), 0, &|_| 3, tree.now, &[]), Summary::default());
    assert!(tree.has("root/a.log.9"));
}

#[test]
fn no_age_is_too_large() {
    let tree = Tree::new();
    tree.file("root/a.log", 900);
    assert_eq!(clean(&tree.path("root"), u64::MAX, &|_| 3, tree.now, &[]).deleted, 0);
}

#[test]
fn open_logs_and_their_parts_stay_by_whatever_name_they_were_opened() {
    let ways: [fn(&Tree) -> PathBuf; 4] = [
        |tree| tree.path("root/qemu/a.log"),
        |tree| tree.path("root//qemu/./a.log"),
        |tree| {
            symlink(tree.path("root/qemu"), tree.path("alias")).unwrap();
            tree.path("alias/a.log")
        },
        |tree| {
            symlink(tree.path("root/qemu/a.log"), tree.path("link")).unwrap();
            tree.path("link")
        },
    ];
    for way in ways {
        let tree = Tree::new();
        for name in ["root/qemu/a.log", "root/qemu/a.log.0", "root/qemu/a.log.17"] {
            tree.file(name, 20);
        }
        assert_eq!(tree.clean(&[way(&tree)]), Summary::default());
        assert!(tree.has("root/qemu/a.log.17"));
    }
}

#[test]
fn parts_of_an_open_log_stay_while_its_file_is_missing() {
    let tree = Tree::new();
    tree.file("root/qemu/a.log.0", 20);
    assert_eq!(tree.clean(&[tree.path("root/qemu/a.log")]), Summary::default());
}

#[test]
fn a_hard_link_to_an_open_log_protects_its_chain() {
    let tree = Tree::new();
    tree.file("elsewhere", 20);
    fs::hard_link(tree.path("elsewhere"), tree.path("root/a.log")).unwrap();
    tree.file("root/a.log.1", 20);
    let _log = tree.log("elsewhere", false);
    assert_eq!(tree.clean(&[tree.path("elsewhere")]), Summary::default());
}

#[test]
fn a_log_that_is_opened_meanwhile_stays_with_its_parts() {
    let ways: [fn(&Tree) -> RotatingFile; 4] = [
        |tree| tree.log("root/a.log", false),
        |tree| tree.log("root//../root/./a.log", false),
        |tree| {
            symlink(tree.path("root/a.log"), tree.path("link")).unwrap();
            tree.log("link", false)
        },
        |tree| tree.log("root/a.log", true),
    ];
    for way in ways {
        let tree = Tree::new();
        for name in ["root/a.log", "root/a.log.2", "root/a.log.17", "root/b.log"] {
            tree.file(name, 20);
        }
        let mut log = None;
        let summary = tree.clean_root(|| log = Some(way(&tree)));
        assert_eq!((summary.deleted, summary.failed), (1, 0));
        assert!(tree.has("root/a.log") && tree.has("root/a.log.17") && !tree.has("root/b.log"));
    }
}

#[test]
fn what_was_written_meanwhile_stays_although_it_is_closed_again() {
    let tree = Tree::new();
    for name in ["root/a.log", "root/a.log.0", "root/b.log.0"] {
        tree.file(name, 20);
    }
    let summary = tree.clean_root(|| {
        tree.log("root/a.log", false).append(&mut Bytes(b"text"), true).unwrap();
        tree.log("root/b.log", false).append(&mut Bytes(b"text"), true).unwrap();
    });
    assert_eq!(summary, Summary { postponed: 3, ..Summary::default() });
    assert!(tree.has("root/a.log.0") && tree.has("root/b.log.0"));
}

/// Somebody moves the new file away, too.
#[test]
fn parts_that_a_rotation_moves_meanwhile_stay() {
    let tree = Tree::new();
    let parts = [0, 1, 2].map(|index| format!("root/a.log.{index}"));
    for name in parts.iter().map(String::as_str).chain(["root/a.log"]) {
        tree.file(name, 20);
    }
    let mut log = None;
    tree.clean_root(|| {
        let log = log.insert(tree.log("root/a.log", false));
        log.append(&mut Bytes(&[b'x'; 150]), true).unwrap();
        fs::remove_file(tree.path("root/a.log")).unwrap();
    });
    assert!(parts.iter().all(|name| tree.has(name)));
}

#[test]
fn whoever_opens_a_log_that_is_being_deleted_gets_a_new_file() {
    let tree = Tree::new();
    tree.file("root/a.log", 20);
    let id = FileId::of(&fs::metadata(tree.path("root/a.log")).unwrap());
    let deletion = Deletion::begin(id.device);
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| tree.log("root/a.log", false));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!opening.is_finished());
        fs::remove_file(tree.path("root/a.log")).unwrap();
        drop(deletion);
        let log = opening.join().unwrap();
        assert_eq!(log.id(), FileId::of(&fs::metadata(tree.path("root/a.log")).unwrap()));
    });
}

#[test]
fn links_do_not_lead_out_of_the_tree() {
    let tree = Tree::new();
    fs::create_dir(tree.path("outside")).unwrap();
    tree.file("outside/a.log", 20);
    symlink(tree.path("outside"), tree.path("root/way-out")).unwrap();
    symlink(tree.path("outside/a.log"), tree.path("root/b.log")).unwrap();
    assert_eq!(tree.clean(&[]).deleted, 1);
    assert!(tree.has("outside/a.log") && !tree.has("root/b.log"));
}

/// The same file is found there, so that nothing but the directory tells.
#[test]
fn nothing_is_deleted_in_a_directory_that_is_put_there_meanwhile() {
    let tree = Tree::new();
    fs::create_dir(tree.path("outside")).unwrap();
    tree.file("root/qemu/a.log", 20);
    fs::hard_link(tree.path("root/qemu/a.log"), tree.path("outside/a.log")).unwrap();
    let summary = tree.clean_one("root/qemu", || {
        fs::rename(tree.path("root/qemu"), tree.path("aside")).unwrap();
        symlink(tree.path("outside"), tree.path("root/qemu")).unwrap();
    });
    assert_eq!(summary.deleted, 1);
    assert!(tree.has("outside/a.log") && !tree.has("aside/a.log"));
}

#[test]
fn what_cannot_be_looked_at_is_skipped() {
    let tree = Tree::new();
    symlink("nowhere", tree.path("root/a.log")).unwrap();
    tree.file("root/b.log", 20);
    assert_eq!(tree.clean(&[]), Summary { deleted: 1, failed: 1, postponed: 0 });
    let missing = clean(&tree.path("missing"), AGE_DAYS_MAX, &|_| 3, tree.now, &[]);
    assert_eq!(missing, Summary { failed: 1, ..Summary::default() });
}

#[test]
fn directories_that_look_like_logs_stay() {
    let tree = Tree::new();
    fs::create_dir(tree.path("root/a.log")).unwrap();
    fs::create_dir(tree.path("root/a.log.9")).unwrap();
    assert_eq!(tree.clean(&[]), Summary::default());
}

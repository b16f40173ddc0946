//! virtlogd in directories that have a budget: older parts of logs go when there is too much.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use tests::harness::{
    Daemon, Subject, Whose, backup, eventually, expect_losses, expect_missing, guest_writes, write,
};

tests::ours! { Virtlogd:
    older_parts_of_closed_logs_go_first,
    a_log_that_is_rotated_keeps_to_the_budget,
    without_older_parts_it_is_told_once,
    on_a_file_system_that_is_low_older_parts_go_and_floods_are_capped,
    as_much_is_removed_as_the_floor_takes,
    other_directories_are_left_alone,
    a_directory_that_is_not_there_is_told_of_once,
    floods_stay_capped_when_the_directory_is_moved,
    budgets_are_kept_after_an_upgrade,
}

static PART: [u8; 65_536] = [b'x'; 65_536];

fn older_parts_of_closed_logs_go_first(subject: Subject) {
    let scene = Scene::begin_with(subject, "log_level = 2\n", "budget = '320 KiB'");
    let (open, closed) = (scene.file("open.log"), scene.file("closed.log"));
    let _log = scene.daemon.log_client().open(&open).unwrap();
    scene.fill([&open, &closed]);
    // Of 448 KiB at least 128 are too much.
    eventually("two parts are gone", || scene.parts() == 5);
    sleep(Duration::from_secs(2));
    assert_eq!(scene.parts(), 5);
    assert!(closed.exists() && open.exists() && backup(&open, 3).exists());
    expect_missing(&backup(&closed, 1));
    expect_missing(&backup(&closed, 0));
    let line = format!("Deleted {} (65536 bytes): logs take more", backup(&closed, 1).display());
    scene.daemon.expect_said(&line);
}

fn a_log_that_is_rotated_keeps_to_the_budget(subject: Subject) {
    let config = "max_size = 65536\nmax_backups = 32\n";
    let scene = Scene::begin_with(subject, config, "budget = '512 KiB'");
    let path = scene.file("a.log");
    let mut client = scene.daemon.log_client();
    let log = client.open(&path).unwrap();
    let mut sent = Vec::new();
    for number in 0..4 {
        let piece: String = (0..5000).map(|line| format!("{number} {line:097}\n")).collect();
        guest_writes(&log.pipe, piece.as_bytes());
        sent.extend(piece.into_bytes());
        eventually("the budget is kept", || scene.bytes() <= 512 << 10);
    }
    // There is no gap: what is left is the end of what was sent.
    let left = client.read(&path, log.position, 4 << 20).unwrap();
    assert!(sent.ends_with(&left) && left.len() > 256 << 10, "{} bytes", left.len());
}

fn without_older_parts_it_is_told_once(subject: Subject) {
    let scene = Scene::begin(subject, "budget = 1000");
    let path = scene.file("a.log");
    let mut log = scene.daemon.log_client().open(&path).unwrap();
    log.pipe.write_all(&[b'x'; 100_000]).unwrap();
    let line = "no older part of a log is left";
    scene.daemon.expect_said(line);
    sleep(Duration::from_secs(3));
    assert_eq!(scene.daemon.stderr().matches(line).count(), 1);
    assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
}

/// No disk has so much free.
fn on_a_file_system_that_is_low_older_parts_go_and_floods_are_capped(subject: Subject) {
    let scene = Scene::begin_with(subject, "max_size = 0\n", "free_min = '1000000 TiB'");
    let path = scene.file("a.log");
    write(&backup(&path, 0), PART);
    eventually("the older part is gone", || !backup(&path, 0).exists());
    let log = scene.daemon.log_client().open(&path).unwrap();
    let sent: Vec<u8> = (0..40_000).flat_map(|line| format!("{line:099}\n").into_bytes()).collect();
    guest_writes(&log.pipe, sent.clone());
    drop(log);
    eventually("the log has ended", || scene.daemon.log_client().position(&path).is_err());
    let found = fs::read(&path).unwrap();
    assert!(expect_losses(&found, &sent) > 0);
    let reason = "more than 65536 bytes a second on a file system that is low";
    assert!(String::from_utf8_lossy(&found).contains(reason));
}

/// Of 1 MiB, 448 KiB are in use, and parts of 64 KiB go until 640 KiB are free.
fn as_much_is_removed_as_the_floor_takes(subject: Subject) {
    let setup = subject.setup();
    let directory = setup.host().path("files/small");
    let mount = "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=1m tmpfs \"$1/files/small\"";
    let rule = format!("[[directory]]\npath = '{}'\nfree_min = '640 KiB'\n", directory.display());
    let daemon = setup.prepare(mount).toml(&rule).start();
    let path = directory.join("a.log");
    let inside = daemon.inside(path.to_str().unwrap());
    write(&inside, PART);
    (0..6).for_each(|index| write(&backup(&inside, index), PART));
    eventually("one part is gone", || !backup(&inside, 5).exists());
    sleep(Duration::from_secs(2));
    assert!(inside.exists() && backup(&inside, 4).exists());
}

fn other_directories_are_left_alone(subject: Subject) {
    let scene = Scene::begin_with(subject, "max_size = 0\n", "free_min = '1000000 TiB'");
    let nested = scene.file("nested");
    fs::create_dir(&nested).unwrap();
    let (other, inside) = (nested.join("a.log"), scene.file("b.log"));
    [&other, &inside].iter().for_each(|path| write(&backup(path, 0), PART));
    eventually("the older part is gone", || !backup(&inside, 0).exists());
    assert!(backup(&other, 0).exists());
    let log = scene.daemon.log_client().open(&other).unwrap();
    guest_writes(&log.pipe, vec![b'x'; 4_000_000]);
    eventually("nothing is lost", || fs::metadata(&other).unwrap().len() == 4_000_000);
}

/// The log is not rotated then.
fn floods_stay_capped_when_the_directory_is_moved(subject: Subject) {
    let scene = Scene::begin_with(subject, "max_size = 0\n", "free_min = '1000000 TiB'");
    let path = scene.file("a.log");
    write(&backup(&path, 0), PART);
    eventually("the older part is gone", || !backup(&path, 0).exists());
    let log = scene.daemon.log_client().open(&path).unwrap();
    let moved = scene.daemon.host().path("moved");
    fs::rename(path.parent().unwrap(), &moved).unwrap();
    scene.daemon.expect_said("Unable to keep the budget of");
    guest_writes(&log.pipe, vec![b'x'; 4_000_000]);
    drop(log);
    eventually("the log has ended", || scene.daemon.log_client().position(&path).is_err());
    let stored_bytes = fs::metadata(moved.join("a.log")).unwrap().len();
    assert!((1..2_000_000).contains(&stored_bytes), "{stored_bytes}");
}

fn a_directory_that_is_not_there_is_told_of_once(subject: Subject) {
    let rule = "[[directory]]\npath = '/none'\nbudget = 1\n";
    let daemon = subject.setup().toml(rule).start();
    let line = "Unable to keep the budget of /none: No such file or directory";
    daemon.expect_said(line);
    sleep(Duration::from_secs(2));
    assert_eq!(daemon.stderr().matches(line).count(), 1);
    daemon.stop();
}

fn budgets_are_kept_after_an_upgrade(subject: Subject) {
    let mut scene = Scene::begin(subject, "budget = '320 KiB'");
    scene.daemon.change_to(Whose::Ours);
    let path = scene.file("a.log");
    let _log = scene.daemon.log_client().open(&path).unwrap();
    scene.fill([&path, &scene.file("b.log")]);
    eventually("two parts are gone", || scene.parts() == 5);
    let line = format!("these end: directory '{}'", scene.directory.display());
    scene.daemon.change_to(Whose::Theirs);
    scene.daemon.expect_said(&line);
}

/// A daemon and a directory with a budget.
struct Scene {
    daemon: Daemon,
    directory: PathBuf,
}

impl Scene {
    fn begin(subject: Subject, keys: &str) -> Self {
        Self::begin_with(subject, "", keys)
    }

    fn begin_with(subject: Subject, config: &str, keys: &str) -> Self {
        let setup = subject.setup();
        let directory = setup.host().path("files");
        let rule = format!("[[directory]]\npath = '{}'\n{keys}\n", directory.display());
        Self { daemon: setup.config(config).toml(&rule).replaceable().start(), directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.daemon.file(name)
    }

    /// Adds four older parts to the first log and two to the second, which it writes.
    fn fill(&self, [open, closed]: [&Path; 2]) {
        write(closed, PART);
        (0..2).for_each(|index| write(&backup(closed, index), PART));
        (0..4).for_each(|index| write(&backup(open, index), PART));
    }

    /// How many files with something in them there are.
    fn parts(&self) -> usize {
        self.sizes().iter().filter(|&&bytes| bytes > 0).count()
    }

    fn bytes(&self) -> u64 {
        self.sizes().iter().sum()
    }

    fn sizes(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.directory).unwrap();
        // Some go meanwhile.
        entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).collect()
    }
}

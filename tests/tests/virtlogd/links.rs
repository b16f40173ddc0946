//! Logs in somebody else's directory, who puts something else in their place: nobody makes the daemon
//! write, or read, where he could not himself, and whoever moves his own files about has his log.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::{Path, PathBuf};

use tests::harness::{
    Daemon, Route, Setup, Subject, Whose, backup, eventually, expect_file, expect_missing, inode,
    needs_root, size, write,
};
use tests::wire::Position;

tests::ours! { Virtlogd:
    a_link_in_the_logs_place_is_not_followed,
    a_link_in_the_logs_place_makes_no_file_elsewhere,
    another_name_of_a_file_is_not_written_to,
    a_link_in_the_directorys_place_is_not_followed,
    a_directory_of_roots_in_somebody_elses_is_not_either,
    nothing_is_renamed_elsewhere_at_a_rotation,
    what_a_link_from_the_start_leads_to_stays_the_log,
    a_link_from_the_start_leads_nowhere_else_later,
    the_rule_outlives_an_upgrade,
    a_message_for_a_closed_log_goes_nowhere_else,
    a_closed_log_is_read_nowhere_else,
    older_parts_are_read_nowhere_else,
    a_directory_that_is_made_again_is_gone_on_in,
    a_directory_that_root_gives_away_is_gone_on_in,
    a_file_that_the_owner_puts_there_is_gone_on_with,
    a_link_in_the_pid_files_place_is_not_followed,
}

tests::mixed! { Virtlogd:
    what_is_found_at_a_take_over_counts,
    a_log_that_was_led_elsewhere_ends_before_libvirts_daemon_follows,
}

tests::both! { Virtlogd:
    a_log_that_is_a_link_is_rotated_beside_the_link,
    a_closed_log_that_is_a_link_is_written_and_read,
    a_directory_may_be_a_link,
    a_link_to_a_directory_may_lead_to_another_of_the_same_owner,
}

/// Whose the directory is.
const MALLORY: u32 = 4321;

const SECRET: &str = "root's keys\n";

const REFUSED: &str =
    "cannot be written, output is buffered as long as there is room: Refused to open";

/// A log in a directory of Mallory's, and a directory of root's.
struct Scene {
    daemon: Daemon,
    home: PathBuf,
    path: PathBuf,
    vault: PathBuf,
}

impl Scene {
    /// `None` where nobody can be somebody else.
    fn begin(subject: Subject) -> Option<Self> {
        Self::begin_with(subject.setup())
    }

    fn begin_with(setup: Setup) -> Option<Self> {
        if !needs_root("a log in somebody else's directory") {
            return None;
        }
        let host = setup.host();
        let (home, vault) = (host.file("home"), host.file("vault"));
        make_directory(&home, MALLORY);
        make_directory(&vault, 0);
        write(&vault.join("keys"), SECRET);
        let daemon = setup.confined().start();
        Some(Self { daemon, path: home.join("guest.log"), home, vault })
    }

    /// The guest's pipe; a first line is in the log.
    fn open(&self) -> File {
        let mut pipe = self.daemon.log_client().open(&self.path).unwrap().pipe;
        pipe.write_all(b"first\n").unwrap();
        expect_file(&self.path, "first\n");
        pipe
    }

    fn move_log_aside(&self) {
        fs::rename(&self.path, self.home.join("aside")).unwrap();
    }

    fn move_home_aside(&self) -> PathBuf {
        let aside = self.daemon.file("home-aside");
        fs::rename(&self.home, &aside).unwrap();
        aside
    }

    /// The guest writes, it is said why that is kept, and root's directory is as it was.
    #[track_caller]
    fn expect_refused(&self, pipe: &mut File, why: &str) {
        pipe.write_all(b"second\n").unwrap();
        eventually("it is refused, or done", || {
            self.daemon.stderr().contains(REFUSED) || !self.is_vault_untouched()
        });
        self.expect_vault_untouched();
        self.daemon.expect_said(&format!("{}: {why}", self.path.display()));
        self.daemon.expect_said("The log of guest 'guest'");
    }

    #[track_caller]
    fn expect_vault_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.vault).unwrap().map(|it| it.unwrap().path()).collect();
        let keys = fs::read_to_string(self.vault.join("keys"));
        assert!(self.is_vault_untouched(), "{names:?} {keys:?}");
    }

    fn is_vault_untouched(&self) -> bool {
        let keys = fs::read(self.vault.join("keys"));
        fs::read_dir(&self.vault).unwrap().count() == 1
            && keys.is_ok_and(|it| it == SECRET.as_bytes())
    }

    /// Where the log's place is free again, nothing is missing.
    #[track_caller]
    fn expect_kept(&self, pipe: &mut File) {
        pipe.write_all(b"third\n").unwrap();
        expect_file(&self.path, "second\nthird\n");
    }
}

fn make_directory(path: &Path, uid: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(uid), Some(uid)).unwrap();
}

/// As Mallory makes it.
fn link(target: &Path, path: &Path) {
    symlink(target, path).unwrap();
    lchown(path, Some(MALLORY), Some(MALLORY)).unwrap();
}

fn a_link_in_the_logs_place_is_not_followed(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    scene.move_log_aside();
    link(&scene.vault.join("keys"), &scene.path);
    scene.expect_refused(&mut pipe, "it is a symbolic link");
    fs::remove_file(&scene.path).unwrap();
    scene.expect_kept(&mut pipe);
}

fn a_link_in_the_logs_place_makes_no_file_elsewhere(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    scene.move_log_aside();
    link(&scene.vault.join("authorized_keys"), &scene.path);
    scene.expect_refused(&mut pipe, "it is a symbolic link");
    fs::remove_file(&scene.path).unwrap();
    scene.expect_kept(&mut pipe);
}

fn another_name_of_a_file_is_not_written_to(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    scene.move_log_aside();
    fs::hard_link(scene.vault.join("keys"), &scene.path).unwrap();
    scene.expect_refused(&mut pipe, "the file has 2 names");
    fs::remove_file(&scene.path).unwrap();
    scene.expect_kept(&mut pipe);
}

fn a_link_in_the_directorys_place_is_not_followed(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    let aside = scene.move_home_aside();
    link(&scene.vault, &scene.home);
    scene.expect_refused(&mut pipe, "its directory belongs to user 0, not to user 4321");
    fs::remove_file(&scene.home).unwrap();
    fs::rename(aside, &scene.home).unwrap();
    pipe.write_all(b"third\n").unwrap();
    expect_file(&scene.path, "first\nsecond\nthird\n");
}

/// Whose directory it is does not tell then.
fn a_directory_of_roots_in_somebody_elses_is_not_either(subject: Subject) {
    let Some(mut scene) = Scene::begin(subject) else { return };
    let logs = scene.home.join("logs");
    make_directory(&logs, 0);
    scene.path = logs.join("guest.log");
    let mut pipe = scene.open();
    fs::rename(&logs, scene.home.join("aside")).unwrap();
    link(&scene.vault, &logs);
    scene.expect_refused(&mut pipe, "another user's symbolic link leads to its directory");
    fs::remove_file(&logs).unwrap();
    make_directory(&logs, 0);
    scene.expect_kept(&mut pipe);
}

/// The path leads to the log all the time, and its directory to where parts must not be renamed.
fn nothing_is_renamed_elsewhere_at_a_rotation(subject: Subject) {
    let Some(scene) = Scene::begin_with(subject.setup().config("max_size = 100\n")) else { return };
    let mut pipe = scene.open();
    write(&scene.vault.join("guest.log.0"), "root's");
    pipe.write_all(&[b'x'; 94]).unwrap();
    eventually("it is full", || size(&scene.path) == Some(100));
    fs::hard_link(&scene.path, scene.vault.join("guest.log")).unwrap();
    let aside = scene.move_home_aside();
    link(&scene.vault, &scene.home);
    pipe.write_all(b"second\n").unwrap();
    let part = scene.vault.join("guest.log.0");
    eventually("it is refused, or done", || {
        scene.daemon.stderr().contains(REFUSED) || inode(&part) == inode(&aside.join("guest.log"))
    });
    expect_file(&part, "root's");
    expect_missing(&backup(&scene.vault.join("guest.log"), 1));
    scene.daemon.expect_said("its directory belongs to user 0");
    fs::remove_file(&scene.home).unwrap();
    fs::rename(aside, &scene.home).unwrap();
    scene.expect_kept(&mut pipe);
    assert_eq!(size(&backup(&scene.path, 0)), Some(100));
}

fn what_a_link_from_the_start_leads_to_stays_the_log(subject: Subject) {
    let Some(scene) = Scene::begin_with(subject.setup().replaceable()) else { return };
    let target = scene.home.join("target");
    link(&target, &scene.path);
    let mut pipe = scene.open();
    expect_file(&target, "first\n");
    fs::rename(&target, scene.home.join("aside")).unwrap();
    pipe.write_all(b"second\n").unwrap();
    expect_file(&target, "second\n");
    let other = scene.home.join("other");
    fs::remove_file(&scene.path).unwrap();
    link(&other, &scene.path);
    pipe.write_all(b"third\n").unwrap();
    expect_file(&other, "third\n");
}

fn a_link_from_the_start_leads_nowhere_else_later(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    for directory in ["ours", "home"] {
        let directory = scene.daemon.file(directory);
        if !directory.exists() {
            make_directory(&directory, 0);
        }
        link(&directory.join("target"), &scene.path);
        let mut pipe = scene.open();
        fs::remove_file(&scene.path).unwrap();
        link(&scene.vault.join("keys"), &scene.path);
        scene.expect_refused(&mut pipe, "it is a symbolic link");
        fs::remove_file(&scene.path).unwrap();
        scene.expect_kept(&mut pipe);
        drop(pipe);
        let mut client = scene.daemon.log_client();
        eventually("it has ended", || client.position(&scene.path).is_err());
        fs::remove_file(&scene.path).unwrap();
    }
}

fn the_rule_outlives_an_upgrade(subject: Subject) {
    for is_directory in [false, true] {
        let Some(mut scene) = Scene::begin_with(subject.setup().replaceable()) else { return };
        let mut pipe = scene.open();
        scene.daemon.change_to(Whose::Ours);
        swap(&scene, is_directory);
        scene.daemon.change_to(Whose::Ours);
        scene.expect_refused(&mut pipe, swapped(is_directory));
        scene.daemon.change_to(Whose::Ours);
        pipe.write_all(b"more\n").unwrap();
        scene.daemon.upgrade();
        scene.expect_vault_untouched();
        fs::remove_file(if is_directory { &scene.home } else { &scene.path }).unwrap();
        if is_directory {
            make_directory(&scene.home, MALLORY);
        }
        expect_file(&scene.path, "second\nmore\n");
    }
}

fn what_is_found_at_a_take_over_counts(route: Route) {
    for is_directory in [false, true] {
        let Some(mut scene) = Scene::begin_with(route.start().setup().replaceable()) else {
            return;
        };
        let mut pipe = scene.open();
        scene.daemon.change_to(Whose::Ours);
        // Behind the take-over of this log.
        scene.daemon.log_client().position(&scene.path).unwrap();
        swap(&scene, is_directory);
        scene.expect_refused(&mut pipe, swapped(is_directory));
    }
}

/// Also if that has not been noticed yet.
fn a_log_that_was_led_elsewhere_ends_before_libvirts_daemon_follows(route: Route) {
    for is_directory in [false, true] {
        let Some(mut scene) = Scene::begin_with(route.start().setup().replaceable()) else {
            return;
        };
        let mut pipe = scene.open();
        scene.daemon.change_to(Whose::Ours);
        scene.daemon.log_client().position(&scene.path).unwrap();
        swap(&scene, is_directory);
        scene.daemon.change_to(Whose::Theirs);
        eventually("the log has ended", || pipe.write_all(b"second\n").is_err());
        scene.expect_vault_untouched();
        scene.daemon.expect_said(swapped(is_directory));
    }
}

fn swap(scene: &Scene, is_directory: bool) {
    if is_directory {
        scene.move_home_aside();
        link(&scene.vault, &scene.home);
    } else {
        scene.move_log_aside();
        link(&scene.vault.join("keys"), &scene.path);
    }
}

fn swapped(is_directory: bool) -> &'static str {
    if is_directory { "its directory belongs to user 0" } else { "it is a symbolic link" }
}

fn a_message_for_a_closed_log_goes_nowhere_else(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut client = scene.daemon.log_client();
    let keys = scene.vault.join("keys");
    let mut expect_refused = |path: &Path, why: &str| {
        let error = client.append(path, "text").expect_err("it is refused");
        assert!(error.message.is_some_and(|text| text.contains(why)), "{why}");
        scene.expect_vault_untouched();
    };
    link(&keys, &scene.path);
    expect_refused(&scene.path, "it is a symbolic link");
    fs::remove_file(&scene.path).unwrap();
    fs::hard_link(&keys, &scene.path).unwrap();
    expect_refused(&scene.path, "the file has 2 names");
    fs::remove_file(&scene.path).unwrap();
    link(&scene.vault, &scene.home.join("logs"));
    expect_refused(&scene.home.join("logs/guest.log"), "another user's symbolic link");
    client.append(&scene.path, "text").unwrap();
    expect_file(&scene.path, "text");
}

fn a_closed_log_is_read_nowhere_else(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut client = scene.daemon.log_client();
    let keys = scene.vault.join("keys");
    let start = Position { inode: inode(&keys), offset: 0 };
    let mut expect_refused = |path: &Path, why: &str| {
        let error = client.read(path, start, 100).expect_err("it is refused");
        assert!(error.message.is_some_and(|text| text.contains(why)), "{why}");
    };
    link(&keys, &scene.path);
    expect_refused(&scene.path, "it is a symbolic link");
    fs::remove_file(&scene.path).unwrap();
    fs::hard_link(&keys, &scene.path).unwrap();
    expect_refused(&scene.path, "the file has 2 names");
    fs::remove_file(&scene.path).unwrap();
    link(&scene.vault, &scene.home.join("logs"));
    expect_refused(&scene.home.join("logs/keys"), "another user's symbolic link");
    write(&scene.path, "text");
    let start = Position { inode: inode(&scene.path), offset: 0 };
    assert_eq!(client.read(&scene.path, start, 100).unwrap(), b"text");
}

fn older_parts_are_read_nowhere_else(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let _pipe = scene.open();
    let part = backup(&scene.path, 0);
    link(&scene.vault.join("keys"), &part);
    let start = Position { inode: inode(&part), offset: 0 };
    let mut client = scene.daemon.log_client();
    let error = client.read(&scene.path, start, 100).expect_err("it is refused");
    assert!(error.message.is_some_and(|text| text.contains("it is a symbolic link")));
}

fn a_directory_that_is_made_again_is_gone_on_in(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    fs::remove_dir_all(&scene.home).unwrap();
    make_directory(&scene.home, MALLORY);
    pipe.write_all(b"second\n").unwrap();
    expect_file(&scene.path, "second\n");
}

fn a_directory_that_root_gives_away_is_gone_on_in(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    chown(&scene.home, Some(MALLORY + 1), None).unwrap();
    fs::remove_file(&scene.path).unwrap();
    pipe.write_all(b"second\n").unwrap();
    expect_file(&scene.path, "second\n");
}

fn a_file_that_the_owner_puts_there_is_gone_on_with(subject: Subject) {
    let Some(scene) = Scene::begin(subject) else { return };
    let mut pipe = scene.open();
    scene.move_log_aside();
    write(&scene.path, "new\n");
    chown(&scene.path, Some(MALLORY), None).unwrap();
    pipe.write_all(b"second\n").unwrap();
    expect_file(&scene.path, "new\nsecond\n");
}

fn a_link_in_the_pid_files_place_is_not_followed(subject: Subject) {
    if !needs_root("a pid file in somebody else's directory") {
        return;
    }
    let setup = subject.setup();
    let host = setup.host();
    let (home, keys) = (host.file("home"), host.file("keys"));
    make_directory(&home, MALLORY);
    write(&keys, SECRET);
    link(&keys, &home.join("pid"));
    let exit = setup.confined().args(["-p".into(), home.join("pid").into_os_string()]).run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    expect_file(&keys, SECRET);
}

fn a_log_that_is_a_link_is_rotated_beside_the_link(subject: Subject) {
    let daemon = subject.start_with("max_size = 100\n");
    let (path, elsewhere) = (daemon.file("guest.log"), daemon.file("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    symlink(elsewhere.join("target"), &path).unwrap();
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    log.pipe.write_all(&[b'x'; 100]).unwrap();
    eventually("it is full", || size(&elsewhere.join("target")) == Some(100));
    log.pipe.write_all(b"second\n").unwrap();
    expect_file(&path, "second\n");
    assert!(backup(&path, 0).is_symlink() && !path.is_symlink());
    let read = client.read(&path, log.position, 1000).unwrap();
    assert_eq!(read, [&[b'x'; 100][..], b"second\n"].concat());
    drop(log.pipe);
    eventually("it has ended", || client.position(&path).is_err());
    assert_eq!(client.read(&path, log.position, 1000).unwrap(), read);
}

fn a_closed_log_that_is_a_link_is_written_and_read(subject: Subject) {
    let daemon = subject.start();
    let (path, target) = (daemon.file("guest.log"), daemon.file("target"));
    symlink("target", &path).unwrap();
    let mut client = daemon.log_client();
    client.append(&path, "first\n").unwrap();
    client.append(&path, "second\n").unwrap();
    expect_file(&target, "first\nsecond\n");
    let start = Position { inode: inode(&target), offset: 0 };
    assert_eq!(client.read(&path, start, 100).unwrap(), b"first\nsecond\n");
}

fn a_directory_may_be_a_link(subject: Subject) {
    let daemon = subject.start_with("max_size = 100\n");
    let (real, path) = (daemon.file("real"), daemon.file("logs/guest.log"));
    fs::create_dir(&real).unwrap();
    symlink("real", daemon.file("logs")).unwrap();
    let mut pipe = daemon.log_client().open(&path).unwrap().pipe;
    pipe.write_all(&[b'x'; 100]).unwrap();
    eventually("it is full", || size(&real.join("guest.log")) == Some(100));
    pipe.write_all(b"second\n").unwrap();
    expect_file(&real.join("guest.log"), "second\n");
    assert_eq!(size(&real.join("guest.log.0")), Some(100));
}

/// As when nova's instances are moved to another disk. libvirt's daemon sees it at a rotation.
fn a_link_to_a_directory_may_lead_to_another_of_the_same_owner(subject: Subject) {
    if !needs_root("directories of somebody else") {
        return;
    }
    let daemon = subject.start_with("max_size = 100\n");
    let (old, new, instances) = (daemon.file("old"), daemon.file("new"), daemon.file("instances"));
    make_directory(&old, MALLORY);
    make_directory(&new, MALLORY);
    link(&old, &instances);
    let mut pipe = daemon.log_client().open(&instances.join("guest.log")).unwrap().pipe;
    pipe.write_all(&[b'x'; 100]).unwrap();
    eventually("it is full", || size(&old.join("guest.log")) == Some(100));
    fs::remove_file(&instances).unwrap();
    link(&new, &instances);
    pipe.write_all(b"second\n").unwrap();
    expect_file(&new.join("guest.log"), "second\n");
    assert_eq!(size(&old.join("guest.log")), Some(100));
}

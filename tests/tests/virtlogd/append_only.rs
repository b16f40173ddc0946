//! virtlogd and logs that cannot be rotated: append-only ones (`chattr +a`), and such whose older
//! parts would have names that are too long.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tests::harness::{
    Daemon, Route, Setup, Subject, Whose, backup, eventually, expect_file, expect_missing,
    guest_writes, left_out, needs_root, size, write,
};
use tests::wire::{OPEN_TRUNCATE, Position};

tests::both! { Virtlogd:
    an_append_only_log_is_written,
    an_append_only_log_is_appended_to,
    an_append_only_log_cannot_be_begun_anew,
    a_name_that_leaves_no_room_for_a_number_is_a_log,
}

tests::ours! { Virtlogd:
    an_append_only_log_gets_packets_once,
    an_append_only_log_that_is_full_goes_on,
    a_log_that_becomes_append_only_goes_on,
    without_backups_an_append_only_log_goes_on,
    a_log_that_something_is_mounted_on_goes_on,
    an_append_only_log_goes_on_after_an_upgrade,
    older_parts_with_too_long_names_are_dropped,
    of_a_long_name_as_many_parts_are_kept_as_can_be,
    a_log_with_a_long_name_can_be_read_and_begun_anew,
}

tests::mixed! { Virtlogd: an_append_only_log_is_taken_over }

/// A file system of the daemon's own, with files that can be made append-only.
const MOUNT: &str = "mkdir \"$1/files/odd\"; mount -n -t tmpfs tmpfs \"$1/files/odd\"";

/// A log that its daemon alone sees.
struct Log {
    daemon: Daemon,
    /// As the daemon knows it.
    path: PathBuf,
    /// As this process reaches it.
    seen: PathBuf,
}

impl Log {
    /// `None`, with a word, where there is no such thing as an append-only file.
    fn append_only(setup: Setup, content: &str) -> Option<Self> {
        let log = Self::plain(setup.prepare(MOUNT))?;
        write(&log.seen, content);
        if !log.chattr("+a") {
            left_out("an append-only log", "no file can be made append-only here");
            return None;
        }
        Some(log)
    }

    fn plain(setup: Setup) -> Option<Self> {
        if !needs_root("a log on a file system of its own") {
            return None;
        }
        let daemon = setup.start();
        let path = daemon.file("odd/a.log");
        let seen = daemon.inside(path.to_str().unwrap());
        Some(Self { daemon, path, seen })
    }

    fn chattr(&self, change: &str) -> bool {
        let mut command = Command::new("chattr");
        let command = command.arg(change).arg(&self.seen).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn open(&self) -> File {
        self.daemon.log_client().open(&self.path).unwrap().pipe
    }

    fn part(&self, index: u32) -> PathBuf {
        backup(&self.seen, index)
    }

    #[track_caller]
    fn expect_said_once(&self, words: &str) {
        self.daemon.expect_said(words);
        let said = self.daemon.stderr();
        assert_eq!(said.matches(words).count(), 1, "{said}");
    }
}

fn an_append_only_log_is_written(subject: Subject) {
    let Some(log) = Log::append_only(subject.setup(), "old\n") else { return };
    let mut open = log.daemon.log_client().open(&log.path).unwrap();
    assert_eq!(open.position.offset, 4);
    open.pipe.write_all(b"new\n").unwrap();
    expect_file(&log.seen, "old\nnew\n");
    let offset = log.daemon.log_client().position(&log.path).unwrap().offset;
    assert_eq!(offset, 8);
}

fn an_append_only_log_is_appended_to(subject: Subject) {
    let Some(log) = Log::append_only(subject.setup(), "old\n") else { return };
    assert_eq!(log.daemon.log_client().append(&log.path, "closed\n"), Ok(0));
    let _pipe = log.open();
    assert_eq!(log.daemon.log_client().append(&log.path, "open\n"), Ok(0));
    expect_file(&log.seen, "old\nclosed\nopen\n");
}

/// Of a guest whose writes are packets, of which a read takes one at a time, and libvirt's daemon what fits
/// into its buffer.
fn an_append_only_log_gets_packets_once(subject: Subject) {
    let Some(log) = Log::append_only(subject.setup().config("max_size = 0"), "") else { return };
    let mut pipe = log.open();
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_DIRECT)).unwrap();
    let mut sent = String::new();
    for number in 0..300 {
        let packet = format!("{number} ").repeat(1 + number * 37 % 700) + "\n";
        pipe.write_all(packet.as_bytes()).unwrap();
        sent.push_str(&packet);
    }
    drop(pipe);
    expect_file(&log.seen, sent);
}

fn an_append_only_log_cannot_be_begun_anew(subject: Subject) {
    let Some(log) = Log::append_only(subject.setup(), "old\n") else { return };
    let path = log.path.as_os_str().as_encoded_bytes();
    let error = log.daemon.log_client().open_with(path, OPEN_TRUNCATE).unwrap_err();
    assert_eq!(error.int1, Errno::EPERM as i32);
    assert!(error.message.unwrap().starts_with("Unable to delete file "));
    expect_file(&log.seen, "old\n");
}

fn an_append_only_log_that_is_full_goes_on(subject: Subject) {
    let setup = subject.setup().config("max_size = 1000\nmax_backups = 2");
    let Some(log) = Log::append_only(setup, "old\n") else { return };
    write(&log.part(0), "newer");
    write(&log.part(1), "older");
    let pipe = log.open();
    guest_writes(&pipe, lines(500));
    expect_file(&log.seen, [b"old\n", &lines(500)[..]].concat());
    expect_file(&log.part(0), "newer");
    expect_file(&log.part(1), "older");
    log.expect_said_once("cannot be rotated");
    log.chattr("-a");
    guest_writes(&pipe, lines(200));
    eventually("it is rotated", || size(&log.seen) < Some(1000));
    assert!(fs::read(&log.seen).unwrap().ends_with(b"line 199\n"));
}

/// Its parts stay where they are, although it is open for more than appending.
fn a_log_that_becomes_append_only_goes_on(subject: Subject) {
    let setup = subject.setup().config("max_size = 1000\nmax_backups = 2");
    let Some(log) = Log::plain(setup.prepare(MOUNT)) else { return };
    let pipe = log.open();
    if !log.chattr("+a") {
        return left_out("an append-only log", "no file can be made append-only here");
    }
    write(&log.part(0), "newer");
    guest_writes(&pipe, lines(500));
    expect_file(&log.seen, lines(500));
    expect_file(&log.part(0), "newer");
    expect_missing(&log.part(1));
    log.expect_said_once("cannot be rotated");
}

fn without_backups_an_append_only_log_goes_on(subject: Subject) {
    let setup = subject.setup().config("max_size = 1000\nmax_backups = 0");
    let Some(log) = Log::append_only(setup, "") else { return };
    guest_writes(&log.open(), lines(500));
    expect_file(&log.seen, lines(500));
    log.expect_said_once("cannot be rotated");
}

fn a_log_that_something_is_mounted_on_goes_on(subject: Subject) {
    let bind = r#"touch "$1/files/real" "$1/files/odd/a.log"
        mount -n --bind "$1/files/real" "$1/files/odd/a.log""#;
    let setup = subject.setup().config("max_size = 1000\nmax_backups = 2");
    let Some(log) = Log::plain(setup.prepare(MOUNT).prepare(bind)) else { return };
    guest_writes(&log.open(), lines(500));
    expect_file(&log.daemon.file("real"), lines(500));
    log.expect_said_once("cannot be rotated");
}

fn an_append_only_log_goes_on_after_an_upgrade(subject: Subject) {
    let setup = subject.setup().config("max_size = 1000\nmax_backups = 2").replaceable();
    let Some(mut log) = Log::append_only(setup, "") else { return };
    let pipe = log.open();
    guest_writes(&pipe, lines(300));
    log.daemon.change_to(Whose::Ours);
    guest_writes(&pipe, lines(300));
    expect_file(&log.seen, [lines(300), lines(300)].concat());
}

fn an_append_only_log_is_taken_over(route: Route) {
    let Some(mut log) = Log::append_only(route.start().setup().replaceable(), "") else { return };
    let mut pipe = log.open();
    let mut sent = String::new();
    for whose in route.once() {
        pipe.write_all(b"before\n").unwrap();
        log.daemon.change_to(whose);
        pipe.write_all(b"after\n").unwrap();
        sent.push_str("before\nafter\n");
        expect_file(&log.seen, &sent);
    }
}

fn a_name_that_leaves_no_room_for_a_number_is_a_log(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file(&"n".repeat(254));
    let mut open = daemon.log_client().open(&path).unwrap();
    open.pipe.write_all(b"text\n").unwrap();
    expect_file(&path, "text\n");
    assert_eq!(daemon.log_client().append(&path, "message\n"), Ok(0));
    expect_file(&path, "text\nmessage\n");
}

fn older_parts_with_too_long_names_are_dropped(subject: Subject) {
    let daemon = subject.start_with("max_size = 1000\nmax_backups = 3");
    let path = daemon.file(&"n".repeat(254));
    let open = daemon.log_client().open(&path).unwrap();
    guest_writes(&open.pipe, lines(500));
    expect_end(&path, &lines(500));
    daemon.expect_said("has a name too long");
    let said = daemon.stderr();
    assert_eq!(said.matches("has a name too long").count(), 1, "{said}");
}

/// Ten have numbers of one digit.
fn of_a_long_name_as_many_parts_are_kept_as_can_be(subject: Subject) {
    let daemon = subject.start_with("max_size = 1000\nmax_backups = 32");
    let path = daemon.file(&"n".repeat(253));
    let open = daemon.log_client().open(&path).unwrap();
    guest_writes(&open.pipe, lines(3000));
    expect_end(&path, &lines(3000));
    let parts = (0..10).rev().map(|index| fs::read(backup(&path, index)).unwrap());
    let kept = [parts.collect::<Vec<_>>().concat(), fs::read(&path).unwrap()].concat();
    assert!(kept.len() > 9000 && lines(3000).ends_with(&kept));
}

fn a_log_with_a_long_name_can_be_read_and_begun_anew(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file(&"n".repeat(254));
    let mut client = daemon.log_client();
    client.append(&path, "old\n").unwrap();
    for inode in [tests::harness::inode(&path), 1] {
        assert_eq!(client.read(&path, Position { inode, offset: 0 }, 100).unwrap(), b"old\n");
    }
    client.open_with(path.as_os_str().as_encoded_bytes(), OPEN_TRUNCATE).unwrap();
    expect_file(&path, "");
}

/// Waits until a file is the end of what was written, as long as it may be.
#[track_caller]
fn expect_end(path: &Path, all: &[u8]) {
    eventually("the end is there", || {
        fs::read(path).is_ok_and(|found| (1..=1000).contains(&found.len()) && all.ends_with(&found))
    });
}

fn lines(count: u32) -> Vec<u8> {
    (0..count).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

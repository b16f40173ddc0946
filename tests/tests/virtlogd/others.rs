//! virtlogd beside others who append to a guest's log, as hook scripts of libvirt do.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::harness::{Daemon, SlowFiles, Subject, backup, can_hang, eventually, expect_file};

tests::both! { Virtlogd:
    what_others_append_meanwhile_is_not_lost,
}

tests::ours! { Virtlogd:
    what_others_append_to_a_log_that_is_rotated_is_not_lost,
    what_others_append_between_upgrades_is_not_lost,
    messages_to_another_name_of_a_log_are_not_lost,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// So that nothing leaves the last part.
const GUESTS_LINES_MAX: u32 = 200_000;

/// A guest's first output.
const BEGUN: &str = "begun\n";

const ROTATED: &str = "max_size = 100000\nmax_backups = 32";

fn what_others_append_meanwhile_is_not_lost(subject: Subject) {
    let daemon = subject.start_with("max_size = 0");
    let (path, mut guest) = begin(&daemon);
    let sent = BEGUN.to_owned() + &write_beside_others(&mut guest, &path, 1..8000);
    expect_both(&daemon, &path, guest, &sent, 8000);
}

fn what_others_append_to_a_log_that_is_rotated_is_not_lost(subject: Subject) {
    let daemon = subject.start_with(ROTATED);
    let (path, mut guest) = begin(&daemon);
    let sent = BEGUN.to_owned() + &write_beside_others(&mut guest, &path, 1..5000);
    expect_both(&daemon, &path, guest, &sent, 5000);
}

fn what_others_append_between_upgrades_is_not_lost(subject: Subject) {
    let mut daemon = subject.setup().config("max_size = 0").replaceable().start();
    let (path, mut guest) = begin(&daemon);
    let mut sent = BEGUN.to_owned() + &write_beside_others(&mut guest, &path, 1..1000);
    daemon.change_to(subject.whose);
    sent.push_str(&write_beside_others(&mut guest, &path, 1000..2000));
    expect_both(&daemon, &path, guest, &sent, 2000);
}

/// The disk is so slow that the log and its other name are not dealt with by one thread.
fn messages_to_another_name_of_a_log_are_not_lost(subject: Subject) {
    if !can_hang("messages beside a slow write") {
        return;
    }
    let daemon = subject.setup().config("max_size = 0").with_slow_files(SERVER).start();
    let path = daemon.file("slow/a.log");
    let mut guest = daemon.log_client().open(&path).unwrap().pipe;
    let names = [daemon.file("slow/./a.log"), daemon.file("link.log"), daemon.file("links/a.log")];
    std::os::unix::fs::symlink(&path, &names[1]).unwrap();
    std::os::unix::fs::symlink("slow", daemon.file("links")).unwrap();
    SlowFiles::of(&daemon.host()).say("delay-us 3000\n");
    let mut sent = String::new();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = daemon.log_client();
            (0..12).zip(names.iter().cycle()).for_each(|(number, name)| {
                client.append(name, format!("<other {number}>\n")).unwrap();
            });
        });
        while !client.is_finished() {
            let line = format!("{}\n", sent.len());
            guest.write_all(line.as_bytes()).unwrap();
            sent.push_str(&line);
            thread::sleep(Duration::from_millis(3));
        }
    });
    SlowFiles::of(&daemon.host()).say("");
    expect_both(&daemon, &daemon.file("backing/a.log"), guest, &sent, 12);
}

/// A guest has begun to write to `a.log`, and somebody else has left a first line.
fn begin(daemon: &Daemon) -> (PathBuf, File) {
    let path = daemon.file("a.log");
    let mut pipe = daemon.log_client().open(&path).unwrap().pipe;
    append(&path, 0);
    pipe.write_all(BEGUN.as_bytes()).unwrap();
    expect_file(&path, format!("<other 0>\n{BEGUN}"));
    (path, pipe)
}

fn append(path: &Path, number: u32) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    file.write_all(format!("<other {number}>\n").as_bytes()).unwrap();
}

/// Appends lines with these numbers while the guest writes; gives what it has written.
fn write_beside_others(guest: &mut File, path: &Path, numbers: std::ops::Range<u32>) -> String {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let mut sent = String::new();
            for number in (0..GUESTS_LINES_MAX).step_by(20) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let lines: String = (number..number + 20).map(|it| format!("{it}\n")).collect();
                guest.write_all(lines.as_bytes()).unwrap();
                sent.push_str(&lines);
                thread::sleep(Duration::from_micros(50));
            }
            sent
        });
        for number in numbers {
            append(path, number);
            thread::sleep(Duration::from_micros(20));
        }
        ends.store(true, Ordering::Relaxed);
        guest.join().unwrap()
    })
}

/// The log has every line of the others, in their order, and every byte of the guest's.
#[track_caller]
fn expect_both(daemon: &Daemon, path: &Path, guest: File, sent: &str, others_count: u32) {
    drop(guest);
    let is_closed = |path: &Path| daemon.log_client().position(path).is_err();
    let names = [path.to_owned(), daemon.file("slow/a.log")];
    eventually("the log is closed", || names.iter().all(|name| is_closed(name)));
    let parts = (0..32).rev().map(|index| backup(path, index));
    let parts = parts.chain([path.to_owned()]).filter_map(|part| fs::read_to_string(part).ok());
    let all: String = parts.collect();
    let mut pieces = all.split("<other ");
    let mut of_guest = pieces.next().unwrap_or_default().to_owned();
    let mut of_others: Vec<u32> = Vec::new();
    for piece in pieces {
        let (number, rest) = piece.split_once(">\n").expect("a line of the others is whole");
        of_others.push(number.parse().unwrap());
        of_guest.push_str(rest);
    }
    let lost = (0..others_count).filter(|number| !of_others.contains(number));
    let lost: Vec<u32> = lost.collect();
    assert!(lost.is_empty(), "lines of the others are lost: {lost:?}");
    assert!(of_others.is_sorted(), "{of_others:?}");
    assert!(of_guest == sent, "bytes of the guest are lost");
}

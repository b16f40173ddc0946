//! virtlogd when the file system is against it. libvirt's daemon gives such a log up.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::harness::{
    Daemon, Subject, backup, eventually, expect_file, expect_losses, guest_writes, inode, left_out,
    size, write,
};
use tests::wire::OpenLog;

tests::both! { Virtlogd:
    a_log_truncated_underneath_goes_on,
    a_log_moved_with_its_directory_goes_on_there,
    a_busy_guest_delays_nobody,
    a_busy_log_has_a_position,
}

tests::ours! { Virtlogd:
    a_log_removed_underneath_is_made_anew,
    a_log_renamed_underneath_is_made_anew,
    a_log_moved_with_its_directory_goes_on_at_its_path_when_it_can,
    a_full_log_moved_with_its_directory_is_kept_and_rotated_later,
    a_log_removed_with_its_directory_waits_for_another,
    a_log_moved_with_its_directory_needs_no_descriptor,
    a_log_truncated_underneath_starts_counting_anew,
    a_full_disk_loses_bytes_but_not_the_log,
    each_gap_is_told_where_it_is,
    a_disk_that_is_full_ten_times_costs_what_is_told,
    a_guest_that_died_on_a_full_disk_can_be_restarted,
    a_limit_on_file_sizes_does_not_kill,
    a_backup_that_cannot_be_replaced_does_not_close_the_log,
    what_was_lost_behind_half_a_line_is_told_on_a_line_of_its_own,
    four_thousand_logs_each_get_their_own_bytes,
}

fn a_log_truncated_underneath_goes_on(subject: Subject) {
    let (_daemon, path, mut log) = open_log(subject);
    log.pipe.write_all(b"first\n").unwrap();
    expect_file(&path, "first\n");
    write(&path, "");
    log.pipe.write_all(b"second\n").unwrap();
    expect_file(&path, "second\n");
}

fn a_busy_guest_delays_nobody(subject: Subject) {
    let daemon = subject.start();
    let mut flood = daemon.log_client().open(&daemon.file("flood.log")).unwrap();
    let flooding = std::thread::spawn(move || while flood.pipe.write_all(&[b'x'; 4096]).is_ok() {});
    let path = daemon.file("quiet.log");
    let mut client = daemon.log_client();
    let mut quiet = client.open(&path).unwrap();
    for round in 1..=50 {
        quiet.pipe.write_all(b"x").unwrap();
        assert_eq!(client.position(&path).unwrap().offset, round);
    }
    drop(daemon);
    flooding.join().expect("the guest sees the pipe break at the end");
}

fn a_busy_log_has_a_position(subject: Subject) {
    let (daemon, path, log) = open_log(subject);
    let guests: Vec<_> = (0..4)
        .map(|_| {
            let mut pipe = log.pipe.try_clone().unwrap();
            std::thread::spawn(move || while pipe.write_all(&[b'x'; 4096]).is_ok() {})
        })
        .collect();
    let mut client = daemon.log_client();
    for _ in 0..20 {
        client.position(&path).unwrap();
    }
    drop(daemon);
    for guest in guests {
        guest.join().expect("the guest sees the pipe break at the end");
    }
}

fn a_log_removed_underneath_is_made_anew(subject: Subject) {
    let (daemon, path, mut log) = open_log(subject);
    log.pipe.write_all(b"first\n").unwrap();
    expect_file(&path, "first\n");
    fs::remove_file(&path).unwrap();
    log.pipe.write_all(b"second\n").unwrap();
    expect_file(&path, "second\n");
    let position = daemon.log_client().position(&path).unwrap();
    assert_eq!((position.inode, position.offset), (inode(&path), 7));
}

fn a_log_renamed_underneath_is_made_anew(subject: Subject) {
    let (daemon, path, mut log) = open_log(subject);
    log.pipe.write_all(b"first\n").unwrap();
    expect_file(&path, "first\n");
    let moved = daemon.file("a.log-20261122");
    fs::rename(&path, &moved).unwrap();
    log.pipe.write_all(b"second\n").unwrap();
    expect_file(&path, "second\n");
    expect_file(&moved, "first\n");
}

fn a_log_moved_with_its_directory_goes_on_there(subject: Subject) {
    let (daemon, path, mut log) = open_in_directory(subject, "");
    log.pipe.write_all(b"first\n").unwrap();
    expect_file(&path, "first\n");
    let moved = move_directory(&daemon, &path);
    log.pipe.write_all(b"second\n").unwrap();
    expect_file(&moved, "first\nsecond\n");
    let position = daemon.log_client().position(&path).unwrap();
    assert_eq!((position.inode, position.offset), (inode(&moved), 13));
    daemon.log_client().append(&path, b"third\n").unwrap();
    expect_file(&moved, "first\nsecond\nthird\n");
}

fn a_log_moved_with_its_directory_goes_on_at_its_path_when_it_can(subject: Subject) {
    let (daemon, path, mut log) = open_in_directory(subject, "");
    let moved = move_directory(&daemon, &path);
    log.pipe.write_all(b"first\n").unwrap();
    expect_file(&moved, "first\n");
    daemon.expect_said("is out of reach; the log goes on in the file that is open");
    fs::create_dir(path.parent().unwrap()).unwrap();
    log.pipe.write_all(b"second\n").unwrap();
    expect_file(&path, "second\n");
    daemon.expect_said("goes on at its path again");
    assert_eq!(daemon.stderr().matches("is out of reach").count(), 1);
    expect_file(&moved, "first\n");
}

/// Nowhere can its older part be put, and the guest need not know.
fn a_full_log_moved_with_its_directory_is_kept_and_rotated_later(subject: Subject) {
    let (daemon, path, log) = open_in_directory(subject, "max_size = 1000\nmax_backups = 30");
    let moved = move_directory(&daemon, &path);
    let (sent, more) = (lines(1000), lines(500));
    guest_writes(&log.pipe, sent.clone());
    expect_file(&moved, &sent);
    fs::rename(moved.parent().unwrap(), path.parent().unwrap()).unwrap();
    guest_writes(&log.pipe, more.clone());
    let stored = || {
        let parts = (0..30).rev().map(|index| backup(&path, index)).chain([path.clone()]);
        parts.filter_map(|part| fs::read(part).ok()).collect::<Vec<_>>().concat()
    };
    eventually("all is there", || stored() == [&*sent, &*more].concat());
    assert!(backup(&path, 1).exists());
}

fn a_log_removed_with_its_directory_waits_for_another(subject: Subject) {
    let (_daemon, path, log) = open_in_directory(subject, "");
    let directory = path.parent().unwrap();
    fs::remove_dir_all(directory).unwrap();
    guest_writes(&log.pipe, lines(1000));
    fs::create_dir(directory).unwrap();
    expect_file(&path, lines(1000));
}

fn a_log_moved_with_its_directory_needs_no_descriptor(subject: Subject) {
    let (daemon, path, log) = open_in_directory(subject, "");
    let moved = move_directory(&daemon, &path);
    daemon.allow_more_fds(0);
    guest_writes(&log.pipe, lines(50_000));
    expect_file(&moved, lines(50_000));
}

/// C rotates at what it thinks is the limit.
fn a_log_truncated_underneath_starts_counting_anew(subject: Subject) {
    let daemon = subject.start_with("max_size = 100\nmax_backups = 2");
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    log.pipe.write_all(&[b'x'; 90]).unwrap();
    expect_file(&path, [b'x'; 90]);
    write(&path, "");
    log.pipe.write_all(&[b'y'; 90]).unwrap();
    expect_file(&path, [b'y'; 90]);
    assert_eq!(daemon.log_client().position(&path).unwrap().offset, 90);
}

fn a_full_disk_loses_bytes_but_not_the_log(subject: Subject) {
    let mount = "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=512k tmpfs \"$1/files/small\"";
    let daemon = subject.setup().prepare(mount).start();
    let path = daemon.file("small/a.log");
    let seen = daemon.inside(path.to_str().unwrap());
    let filler = seen.with_file_name("filler");
    fs::write(&filler, vec![0; 256 << 10]).unwrap();
    let log = daemon.log_client().open(&path).unwrap();
    let mut sent = lines(100_000);
    guest_writes(&log.pipe, sent.clone());
    fs::remove_file(filler).unwrap();
    eventually("the log goes on", || {
        guest_writes(&log.pipe, *b"again\n");
        sent.extend(b"again\n");
        fs::read(&seen).is_ok_and(|found| found.ends_with(b"again\n"))
    });
    drop(log);
    eventually("the log is closed", || daemon.log_client().position(&path).is_err());
    assert_eq!(expect_losses(&fs::read(&seen).unwrap(), &sent), 1);
}

/// Room for a little in between must not let newer output in front of the line about the loss.
fn each_gap_is_told_where_it_is(subject: Subject) {
    let mount = "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=512k tmpfs \"$1/files/small\"";
    let daemon = subject.setup().prepare(mount).start();
    let path = daemon.file("small/a.log");
    let seen = daemon.inside(path.to_str().unwrap());
    let filler = |name: &str| seen.with_file_name(name);
    fs::write(filler("large"), vec![0; 256 << 10]).unwrap();
    fs::write(filler("little"), vec![0; 20 << 10]).unwrap();
    let log = daemon.log_client().open(&path).unwrap();
    let sent = lines(100_000);
    let (first, second) = sent.split_at(sent.len() / 2);
    guest_writes(&log.pipe, first);
    fs::remove_file(filler("little")).unwrap();
    guest_writes(&log.pipe, second);
    fs::remove_file(filler("large")).unwrap();
    drop(log);
    eventually("the log is closed", || daemon.log_client().position(&path).is_err());
    assert_eq!(expect_losses(&fs::read(&seen).unwrap(), &sent), 1);
}

/// The smallest file system there is, filled by the log itself, and by others.
fn a_disk_that_is_full_ten_times_costs_what_is_told(subject: Subject) {
    let mount = "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=64k tmpfs \"$1/files/small\"";
    let daemon = subject.setup().config("max_size = 0").prepare(mount).start();
    let path = daemon.file("small/a.log");
    let seen = daemon.inside(path.to_str().unwrap());
    let log = daemon.log_client().open(&path).unwrap();
    let (mut sent, mut told) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let piece: Vec<u8> =
            (0..12_000).flat_map(|line| format!("{round} {line}\n").into_bytes()).collect();
        guest_writes(&log.pipe, piece.clone());
        sent.extend(piece);
        eventually("the disk is full", || size(&seen) == Some(65_536));
        // What was written is moved to safety, and the disk is empty.
        told.extend(fs::read(&seen).unwrap());
        write(&seen, "");
        eventually("the log goes on", || size(&seen).is_some_and(|size| size > 0));
        eventually("all is told", || {
            let waiting = size(&seen);
            std::thread::sleep(std::time::Duration::from_millis(600));
            size(&seen) == waiting && waiting < Some(65_536) || waiting == Some(65_536)
        });
        if size(&seen) == Some(65_536) {
            told.extend(fs::read(&seen).unwrap());
            write(&seen, "");
        }
    }
    drop(log);
    eventually("the log is closed", || daemon.log_client().position(&path).is_err());
    told.extend(fs::read(&seen).unwrap());
    assert!(expect_losses(&told, &sent) >= 1);
}

fn a_guest_that_died_on_a_full_disk_can_be_restarted(subject: Subject) {
    let mount = "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=64k tmpfs \"$1/files/small\"";
    let daemon = subject.setup().prepare(mount).start();
    let path = daemon.file("small/a.log");
    let seen = daemon.inside(path.to_str().unwrap());
    let mut log = daemon.log_client().open(&path).unwrap();
    log.pipe.write_all(b"hello\n").unwrap();
    expect_file(&seen, "hello\n");
    let mut filler = fs::File::create(seen.with_file_name("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    guest_writes(&log.pipe, vec![b'x'; 8000]);
    guest_writes(&log.pipe, *b"last words\n");
    drop(log);
    daemon.log_client().open(&path).unwrap();
}

fn a_limit_on_file_sizes_does_not_kill(subject: Subject) {
    let mut daemon = subject.setup().config("max_size = 0").limit("--fsize=4194304").start();
    let path = daemon.file("a.log");
    let log = daemon.log_client().open(&path).unwrap();
    guest_writes(&log.pipe, lines(800_000));
    eventually("the file has reached the limit", || size(&path) == Some(4_194_304));
    assert!(daemon.is_running());
    write(&path, "");
    eventually("the log goes on", || {
        guest_writes(&log.pipe, *b"again\n");
        fs::read(&path).is_ok_and(|found| found.ends_with(b"again\n"))
    });
}

fn a_backup_that_cannot_be_replaced_does_not_close_the_log(subject: Subject) {
    let daemon = subject.start_with("max_size = 100\nmax_backups = 1");
    let path = daemon.file("a.log");
    let slot = backup(&path, 0);
    fs::create_dir(&slot).unwrap();
    write(&slot.join("file"), "so that it cannot be replaced");
    let log = daemon.log_client().open(&path).unwrap();
    guest_writes(&log.pipe, lines(20_000));
    fs::remove_dir_all(&slot).unwrap();
    eventually("the log goes on", || {
        guest_writes(&log.pipe, *b"again\n");
        fs::read(&path).is_ok_and(|found| found.ends_with(b"again\n"))
    });
}

/// With one descriptor left a full file can be moved, and the new one not be made.
fn what_was_lost_behind_half_a_line_is_told_on_a_line_of_its_own(subject: Subject) {
    const SIZE_MAX: usize = 30_000;
    let daemon = subject.start_with(&format!("max_size = {SIZE_MAX}\nmax_backups = 1"));
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    let (_, fds_max) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let (half, rest) = (vec![b'x'; SIZE_MAX], lines(2_000));
    guest_writes(&log.pipe, half.clone());
    eventually("the file is full", || size(&path) == Some(SIZE_MAX as u64));
    daemon.allow_more_fds(1);
    guest_writes(&log.pipe, rest.clone());
    daemon.expect_said("is being lost");
    assert!(backup(&path, 0).exists() && !path.exists());
    daemon.limit_fds(fds_max);
    drop(log);
    eventually("the log is closed", || client.position(&path).is_err());
    let found = [backup(&path, 0), path].map(|part| fs::read(part).unwrap()).concat();
    assert_eq!(expect_losses(&found, &[half, rest].concat()), 1);
}

fn four_thousand_logs_each_get_their_own_bytes(subject: Subject) {
    const LOGS: u32 = 4000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 3 * u64::from(LOGS) {
        left_out("4000 logs at once", &format!("only {hard} descriptors are allowed here"));
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let daemon = subject.start();
    let mut client = daemon.log_client();
    let path = |number: u32| daemon.file(&format!("{number}.log"));
    let mut logs: Vec<OpenLog> =
        (0..LOGS).map(|number| client.open(&path(number)).unwrap()).collect();
    for round in 0..3 {
        for (number, log) in (0..).zip(&mut logs) {
            log.pipe.write_all(line(number, round).as_bytes()).unwrap();
        }
    }
    for number in 0..LOGS {
        expect_file(&path(number), (0..3).map(|round| line(number, round)).collect::<String>());
    }
    drop(logs);
    eventually("all logs are closed", || daemon.fd_count() < 50);
}

fn open_log(subject: Subject) -> (Daemon, PathBuf, OpenLog) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let log = daemon.log_client().open(&path).unwrap();
    (daemon, path, log)
}

fn open_in_directory(subject: Subject, config: &str) -> (Daemon, PathBuf, OpenLog) {
    let daemon = subject.start_with(config);
    let path = daemon.file("logs/a.log");
    fs::create_dir(daemon.file("logs")).unwrap();
    let log = daemon.log_client().open(&path).unwrap();
    (daemon, path, log)
}

/// Renames the log's directory. Returns where the log is then.
fn move_directory(daemon: &Daemon, path: &Path) -> PathBuf {
    let moved = daemon.file("logs.old");
    fs::rename(path.parent().unwrap(), &moved).unwrap();
    moved.join(path.file_name().unwrap())
}

fn lines(count: u32) -> Vec<u8> {
    (0..count).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

fn line(number: u32, round: u32) -> String {
    format!("log {number}, line {round}\n")
}

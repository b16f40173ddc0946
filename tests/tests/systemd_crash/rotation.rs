//! A rotation that a kill has cut off between two of its renames.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tests::harness::{Program, backup, expect_file};
use tests::machine::{drop_in, enable, expect_property, main_pid, main_socket, service, systemctl};
use tests::wire::LogClient;

use super::kills::wait_until_restarted;

tests::on_machine! { Ours:
    a_rotation_that_was_cut_off_is_finished,
}

/// As many older parts as there may be: a rotation takes longest then.
const PARTS: u32 = 32;

const CONFIG: &str = "max_size = 1024\nmax_backups = 32\n";

/// Bytes of a line; a file is full of them.
const LINE_BYTES: usize = 16;
const FILE_BYTES: usize = 1024;

/// How many rotations must have been cut off, and how many tries there are.
const CUTS: usize = 3;
const TRIES_MAX: usize = 100;

/// For a rotation to begin.
const PATIENCE: Duration = Duration::from_secs(20);

fn a_rotation_that_was_cut_off_is_finished() {
    fs::write("/etc/libvirt/virtlogd.conf", CONFIG).unwrap();
    enable(Program::Virtlogd);
    // Time to look at what the dead one has left.
    drop_in(&service(Program::Virtlogd), "[Service]\nRestartSec=500ms\n");
    systemctl(&["start", &service(Program::Virtlogd)]);
    let path = Path::new("/srv/guest.log");
    // Newest first.
    let mut files: Vec<_> = (0..=PARTS).map(|age| full_file(1000 - u64::from(age))).collect();
    for (name, content) in names(path).iter().zip(&files) {
        fs::write(name, content).unwrap();
    }
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let mut pipe = client.open(path).unwrap().pipe;
    let mut cuts = 0;
    for number in 1..=TRIES_MAX {
        let next = full_file(1000 + number as u64);
        cuts += usize::from(kill_in_rotation(path, || pipe.write_all(next.as_bytes()).unwrap()));
        files.insert(0, next);
        files.pop();
        for (name, content) in names(path).iter().zip(&files) {
            expect_file(name, content);
        }
        if cuts == CUTS {
            return println!("{number} kills cut off {cuts} rotations");
        }
    }
    panic!("only {cuts} rotations were cut off");
}

/// Kills the daemon when it has renamed half of the files; whether it had not renamed all yet.
fn kill_in_rotation(path: &Path, write: impl FnOnce()) -> bool {
    let daemon = main_pid(Program::Virtlogd);
    let middle = backup(path, PARTS / 2);
    let (before, end) = (inode(&middle), Instant::now() + PATIENCE);
    write();
    while inode(&middle) == before {
        assert!(Instant::now() < end, "no rotation has begun");
    }
    kill(daemon, Signal::SIGKILL).unwrap();
    expect_property(&service(Program::Virtlogd), "SubState", "auto-restart");
    let missing = names(path).iter().filter(|name| !name.exists()).count();
    wait_until_restarted(Program::Virtlogd, daemon);
    assert!(missing <= 1, "{missing} of the files are missing");
    missing == 1
}

/// The log's files, newest first.
fn names(path: &Path) -> Vec<PathBuf> {
    let backups = (0..PARTS).map(|number| backup(path, number));
    std::iter::once(path.to_path_buf()).chain(backups).collect()
}

fn full_file(number: u64) -> String {
    format!("{number:0width$}\n", width = LINE_BYTES - 1).repeat(FILE_BYTES / LINE_BYTES)
}

/// `None` while there is no such file.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

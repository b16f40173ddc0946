use super::*;
use crate::guest::pipe::tests::{guest, write};
use crate::guest::staging::{StagingPool, Workspace};
use crate::rotating_file::Limits;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

fn source<'a>(guest: &'a Guest, workspace: &'a mut Workspace, bytes: u64) -> GuestBytes<'a> {
    let Workspace { staging, scratch, .. } = workspace;
    GuestBytes::new(guest, staging, scratch, TurnBudget::all(bytes))
}

#[test]
fn looking_takes_nothing_and_sees_staged_bytes_first() {
    let (guest, writer) = guest();
    let mut workspace = Workspace::new(&StagingPool::default()).unwrap();
    write(&writer, b"staged");
    guest.move_to(&workspace.staging, 6).unwrap();
    write(&writer, b" then waiting");
    let mut source = source(&guest, &mut workspace, 1000);
    assert_eq!(source.available().unwrap(), 19);
    assert_eq!(source.peek(11).unwrap(), b"staged then");
    assert_eq!(source.peek(3).unwrap(), b"sta");
    assert_eq!(source.available().unwrap(), 19);
}

#[test]
fn bytes_that_have_to_be_taken_to_be_looked_at_are_the_same() {
    let (guest, writer) = guest();
    let mut workspace = Workspace::new(&StagingPool::default()).unwrap();
    write(&writer, b"staged");
    guest.move_to(&workspace.staging, 6).unwrap();
    write(&writer, b" then waiting");
    let mut source = source(&guest, &mut workspace, 1000);
    for len_max in [3, 11] {
        source.read_ahead(len_max).unwrap();
        assert_eq!(source.scratch.bytes, b"staged then waiting"[..len_max]);
        assert_eq!(source.available().unwrap(), 19);
    }
    assert_eq!(source.peek(19).unwrap(), b"staged then waiting");
    let file = tempfile::tempfile().unwrap();
    let mut stored = 0;
    while stored < 19 {
        let len = source.prepare(19 - stored).unwrap();
        stored += source.write_to(file.as_fd(), Offset::At(stored), len).unwrap();
    }
    let text = std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    assert_eq!(text, b"staged then waiting");
}

#[test]
fn bytes_written_one_by_one_can_all_be_looked_at() {
    let (guest, writer) = guest();
    let mut workspace = Workspace::new(&StagingPool::default()).unwrap();
    let line: Vec<u8> = (b' '..b' ' + 80).collect();
    for byte in &line {
        write(&writer, &[*byte]);
    }
    let mut source = source(&guest, &mut workspace, 80);
    assert_eq!(source.peek(80).unwrap(), line);
}

#[test]
fn a_log_is_written_and_rotated_without_its_bytes_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let limits = Limits { size_bytes_max: 1000, backups_max: 3 };
    let mut file = RotatingFile::open(path.as_path(), limits, false).unwrap();
    let (guest, writer) = guest();
    let mut workspace = Workspace::new(&StagingPool::default()).unwrap();
    let text: String = (0..250).map(|number| format!("line {number:04}\n")).collect();
    for piece in text.as_bytes().chunks(333) {
        write(&writer, piece);
        let mut source = source(&guest, &mut workspace, u64::MAX);
        file.append(&mut source, true).unwrap();
    }
    let part = |suffix: &str| std::fs::read(format!("{}{suffix}", path.display())).unwrap();
    assert_eq!([part(".1"), part(".0"), part("")].concat(), text.as_bytes());
    assert!(part(".1").len() <= 1000 && part(".1").ends_with(b"\n"));
}

#[test]
fn what_cannot_be_stored_stays_staged() {
    let (guest, writer) = guest();
    let mut workspace = Workspace::new(&StagingPool::default()).unwrap();
    write(&writer, b"precious");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut source = source(&guest, &mut workspace, 100);
    assert_eq!(source.prepare(100).unwrap(), 8);
    source.write_to(full.as_fd(), Offset::At(0), 8).unwrap_err();
    assert_eq!(source.available().unwrap(), 8);
    assert_eq!(source.peek(8).unwrap(), b"precious");
    assert_eq!(workspace.staging.held(), 8);
}

#[test]
fn what_could_not_be_read_of_another_log_is_not_seen() {
    let (guest, writer) = guest();
    let mut workspace = Workspace::new(&StagingPool::default()).unwrap();
    write(&writer, b"this log");
    workspace.scratch.leave_unread(b"another log");
    let mut source = source(&guest, &mut workspace, 1000);
    assert_eq!(source.peek(100).unwrap(), b"this log");
}

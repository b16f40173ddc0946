//! virtlogd: asking how far a log goes, and reading it back.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tests::harness::{Daemon, Subject, backup, inode, write};
use tests::wire::{Header, LOG_PROGRAM, Position, RpcError, Writer};

tests::both! { Virtlogd:
    a_position_counts_what_is_still_in_the_pipe,
    a_position_starts_at_the_end_of_an_old_file,
    a_position_needs_an_open_log,
    flags_are_refused,
    replies_have_their_exact_sizes,
    reading_starts_at_the_inode_and_offset,
    reading_goes_on_into_newer_files,
    reading_past_the_end_of_a_file_goes_on_in_the_next,
    an_unknown_inode_starts_at_the_oldest_slot,
    reading_needs_no_open_log,
    a_request_over_4_mib_is_refused,
    an_answer_of_4_mib_arrives_whole,
    nothing_asked_for_is_nothing,
    a_negative_offset_is_invalid,
    a_negative_offset_in_a_file_that_is_nowhere_cannot_be_sought,
    data_end_at_the_first_nul,
    bytes_need_not_be_utf_8,
    a_file_that_is_nowhere_cannot_be_sought,
}

tests::ours! { Virtlogd:
    reading_sees_what_is_still_in_the_pipe,
    an_unknown_inode_falls_to_the_oldest_file_there_is,
}

fn a_position_counts_what_is_still_in_the_pipe(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    for round in 1..=20 {
        log.pipe.write_all(&[b'x'; 5000]).unwrap();
        let position = Position { inode: inode(&path), offset: round * 5000 };
        assert_eq!(client.position(&path), Ok(position));
    }
}

fn a_position_starts_at_the_end_of_an_old_file(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, "12345");
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    assert_eq!(log.position, Position { inode: inode(&path), offset: 5 });
    assert_eq!(client.position(&path), Ok(log.position));
}

fn a_position_needs_an_open_log(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, "there, but not open");
    let error = daemon.log_client().position(&path).unwrap_err();
    let detail = format!("No open log file {}", path.display());
    assert_eq!(error, RpcError::templated(1, 63, "internal error: ", &detail));
}

fn flags_are_refused(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let _log = client.open(&path).unwrap();
    let flags = 0x8000_0001;
    let refused = |function: &str| RpcError::flags(63, function, flags);
    assert_eq!(
        client.position_with(&path, flags),
        Err(refused("virLogHandlerDomainGetLogFilePosition"))
    );
    assert_eq!(
        client.read_with(&path, START, 10, flags),
        Err(refused("virLogHandlerDomainReadLogFile"))
    );
    assert_eq!(
        client.append_with(&path, "x", flags),
        Err(refused("virLogHandlerDomainAppendLogFile"))
    );
}

fn replies_have_their_exact_sizes(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let _log = client.open(&path).unwrap();
    client.append(&path, "12345").unwrap();
    let name = path.to_str().unwrap();
    let position = Writer::new().string(name).u32(0).into_bytes();
    let read = Writer::new().string(name).u64(inode(&path)).u64(0).u64(99).u32(0).into_bytes();
    for (procedure, payload, reply_bytes) in [(2, position, 44), (3, read, 32 + 8)] {
        let call = Header::call(LOG_PROGRAM, procedure).message(&payload);
        client.connection().send(&call).unwrap();
        assert_eq!(client.connection().answer().message().bytes.len(), reply_bytes);
    }
}

fn reading_starts_at_the_inode_and_offset(subject: Subject) {
    let (daemon, path) = three_files(subject);
    let read = |file: &Path, offset, length_max| {
        daemon.log_client().read(&path, at(file, offset), length_max).unwrap()
    };
    assert_eq!(read(&path, 0, 100), b"newest");
    assert_eq!(read(&path, 3, 100), b"est");
    assert_eq!(read(&path, 0, 4), b"newe");
}

fn reading_goes_on_into_newer_files(subject: Subject) {
    let (daemon, path) = three_files(subject);
    let mut client = daemon.log_client();
    let middle = at(&backup(&path, 0), 4);
    assert_eq!(client.read(&path, middle, 100).unwrap(), b"lenewest");
    let oldest = at(&backup(&path, 1), 0);
    assert_eq!(client.read(&path, oldest, 100).unwrap(), b"oldestmiddlenewest");
    assert_eq!(client.read(&path, oldest, 8).unwrap(), b"oldestmi");
}

fn reading_past_the_end_of_a_file_goes_on_in_the_next(subject: Subject) {
    let (daemon, path) = three_files(subject);
    let mut client = daemon.log_client();
    let beyond = at(&backup(&path, 0), 1000);
    assert_eq!(client.read(&path, beyond, 100).unwrap(), b"newest");
    assert_eq!(client.read(&path, at(&path, 1000), 100).unwrap(), b"");
}

fn an_unknown_inode_starts_at_the_oldest_slot(subject: Subject) {
    let (daemon, path) = three_files(subject);
    let unknown = Position { inode: 1, offset: 2 };
    let data = daemon.log_client().read(&path, unknown, 100).unwrap();
    assert_eq!(data, b"destmiddlenewest", "the offset given counts there too");
}

fn reading_needs_no_open_log(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("any");
    write(&path, "any file\n");
    let data = daemon.log_client().read(&path, at(&path, 0), 100).unwrap();
    assert_eq!(data, b"any file\n");
}

fn a_request_over_4_mib_is_refused(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    for length_max in [LENGTH_MAX + 1, u64::MAX] {
        // The length is looked at before the flags.
        let error = daemon.log_client().read_with(&path, START, length_max, 1).unwrap_err();
        let detail = format!("Requested data len {length_max} is larger than maximum {LENGTH_MAX}");
        assert_eq!(error, RpcError::templated(1, 7, "internal error: ", &detail));
    }
}

fn an_answer_of_4_mib_arrives_whole(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let content: Vec<u8> = (0..5_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    write(&path, &content);
    let data = daemon.log_client().read(&path, at(&path, 0), LENGTH_MAX).unwrap();
    assert!(data == content[..4_194_304], "{} bytes, or other ones", data.len());
}

fn nothing_asked_for_is_nothing(subject: Subject) {
    let (daemon, path) = three_files(subject);
    assert_eq!(daemon.log_client().read(&path, at(&path, 0), 0).unwrap(), b"");
}

fn a_negative_offset_is_invalid(subject: Subject) {
    let (daemon, path) = three_files(subject);
    let start = at(&path, 1 << 63);
    let error = daemon.log_client().read(&path, start, 100).unwrap_err();
    assert_eq!(error, cannot_seek(start, Errno::EINVAL, "Invalid argument"));
}

fn a_negative_offset_in_a_file_that_is_nowhere_cannot_be_sought(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, "text");
    let start = Position { inode: inode(&path) + 1, offset: 1 << 63 };
    let error = daemon.log_client().read(&path, start, 100).unwrap_err();
    assert_eq!(error, cannot_seek(start, Errno::EBADF, "Bad file descriptor"));
}

fn data_end_at_the_first_nul(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, "before\0after");
    assert_eq!(daemon.log_client().read(&path, at(&path, 0), 100).unwrap(), b"before");
}

fn bytes_need_not_be_utf_8(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, b"\xff\xfe\x80");
    assert_eq!(daemon.log_client().read(&path, at(&path, 0), 100).unwrap(), b"\xff\xfe\x80");
}

fn a_file_that_is_nowhere_cannot_be_sought(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("none");
    let error = daemon.log_client().read(&path, START, 100).unwrap_err();
    assert_eq!(error, cannot_seek(START, Errno::EBADF, "Bad file descriptor"));
}

/// In C it depends on the order of events.
fn reading_sees_what_is_still_in_the_pipe(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    for round in 1..=20 {
        log.pipe.write_all(&[b'x'; 5000]).unwrap();
        let data = client.read(&path, log.position, LENGTH_MAX).unwrap();
        assert_eq!(data.len(), round * 5000);
    }
}

/// In C this is an error unless there are as many backups as there may be.
fn an_unknown_inode_falls_to_the_oldest_file_there_is(subject: Subject) {
    let (daemon, path) = three_files(subject);
    fs::remove_file(backup(&path, 1)).unwrap();
    let unknown = Position { inode: 1, offset: 0 };
    assert_eq!(daemon.log_client().read(&path, unknown, 100).unwrap(), b"middlenewest");
}

/// libvirt's limit for one answer, in bytes.
const LENGTH_MAX: u64 = 4_194_304;

const START: Position = Position { inode: 7, offset: 0 };

/// A daemon that keeps two backups, and a log that has both.
fn three_files(subject: Subject) -> (Daemon, PathBuf) {
    let daemon = subject.start_with("max_backups = 2");
    let path = daemon.file("a.log");
    write(&backup(&path, 1), "oldest");
    write(&backup(&path, 0), "middle");
    write(&path, "newest");
    (daemon, path)
}

fn at(file: &Path, offset: u64) -> Position {
    Position { inode: inode(file), offset }
}

fn cannot_seek(start: Position, errno: Errno, reason: &str) -> RpcError {
    let Position { inode, offset } = start;
    let text = format!("Unable to seek to inode {inode} offset {offset}: {reason}");
    RpcError::system(0, errno as i32, &text)
}

//! virtlogd: appending one message.

use std::fs;
use std::io::Write;

use nix::errno::Errno;
use nix::unistd::truncate;
use tests::harness::{Subject, backup, expect_file, size, write};
use tests::wire::{Header, LOG_PROGRAM, Position, RpcError, Writer};

tests::both! { Virtlogd:
    the_reply_has_32_bytes_and_says_0,
    a_message_goes_behind_what_is_there,
    a_log_that_is_not_open_is_made,
    an_open_log_goes_on_behind_the_message,
    an_empty_message_still_makes_the_file,
    a_message_ends_at_its_first_nul,
    a_message_is_rotated_like_any_bytes,
    a_message_goes_to_the_end_of_a_log_that_was_truncated,
    a_missing_directory_is_an_error,
    a_backup_that_cannot_be_replaced_is_an_error,
}

tests::ours! { Virtlogd:
    a_message_comes_behind_what_is_still_in_the_pipe,
    a_message_goes_to_the_path_of_a_log_that_was_removed,
}

fn the_reply_has_32_bytes_and_says_0(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let arguments = Writer::new().string("qemu").fixed(&[7; 16]).string("guest");
    let arguments = arguments.string(path.to_str().unwrap()).string("text").u32(0);
    let mut client = daemon.connect_main();
    client.send(&Header::call(LOG_PROGRAM, 4).message(&arguments.into_bytes())).unwrap();
    let frame = client.answer().message();
    assert_eq!((frame.bytes.len(), frame.payload), (32, vec![0; 4]));
}

fn a_message_goes_behind_what_is_there(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, "old\n");
    assert_eq!(daemon.log_client().append(&path, "new\n"), Ok(0));
    expect_file(&path, "old\nnew\n");
}

fn a_log_that_is_not_open_is_made(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    client.append(&path, "text\n").unwrap();
    expect_file(&path, "text\n");
    client.position(&path).expect_err("it is not left open");
}

fn an_open_log_goes_on_behind_the_message(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    client.append(&path, "message\n").unwrap();
    log.pipe.write_all(b"guest\n").unwrap();
    expect_file(&path, "message\nguest\n");
    let inode = log.position.inode;
    assert_eq!(client.position(&path), Ok(Position { inode, offset: 14 }));
}

fn a_message_goes_to_the_end_of_a_log_that_was_truncated(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    log.pipe.write_all(b"guest\n").unwrap();
    expect_file(&path, "guest\n");
    truncate(&path, 0).unwrap();
    client.append(&path, "message\n").unwrap();
    expect_file(&path, "message\n");
}

fn a_message_goes_to_the_path_of_a_log_that_was_removed(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let _log = client.open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    client.append(&path, "message\n").unwrap();
    expect_file(&path, "message\n");
}

fn an_empty_message_still_makes_the_file(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    assert_eq!(daemon.log_client().append(&path, ""), Ok(0));
    assert_eq!(size(&path), Some(0));
}

fn a_message_ends_at_its_first_nul(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    daemon.log_client().append(&path, b"ab\0cd").unwrap();
    expect_file(&path, "ab");
}

fn a_message_is_rotated_like_any_bytes(subject: Subject) {
    let daemon = subject.start_with("max_size = 100\nmax_backups = 2");
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let _log = client.open(&path).unwrap();
    client.append(&path, [b'x'; 150]).unwrap();
    expect_file(&backup(&path, 0), [b'x'; 100]);
    expect_file(&path, [b'x'; 50]);
}

fn a_missing_directory_is_an_error(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("none/a.log");
    let error = daemon.log_client().append(&path, "x").unwrap_err();
    let text = format!("Unable to open file: {}: No such file or directory", path.display());
    assert_eq!(error, RpcError::system(0, Errno::ENOENT as i32, &text));
}

fn a_backup_that_cannot_be_replaced_is_an_error(subject: Subject) {
    let daemon = subject.start_with("max_size = 100\nmax_backups = 1");
    let path = daemon.file("a.log");
    let slot = backup(&path, 0);
    std::fs::create_dir(&slot).unwrap();
    write(&slot.join("file"), "so that it cannot be replaced");
    let error = daemon.log_client().append(&path, [b'x'; 150]).unwrap_err();
    let text = format!("Unable to rename {} to {}: Is a directory", path.display(), slot.display());
    assert_eq!(error, RpcError::system(0, Errno::EISDIR as i32, &text));
}

/// C puts the message in front of it, in the middle of a line of the guest perhaps.
fn a_message_comes_behind_what_is_still_in_the_pipe(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    let mut wanted = Vec::new();
    for _ in 0..20 {
        log.pipe.write_all(&[b'x'; 5000]).unwrap();
        client.append(&path, "message\n").unwrap();
        wanted.extend([b'x'; 5000]);
        wanted.extend(b"message\n");
    }
    expect_file(&path, wanted);
}

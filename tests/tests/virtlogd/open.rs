//! virtlogd: opening a log and following a guest's pipe.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tests::harness::{
    FcntlLease, Subject, backup, eventually, expect_file, expect_missing, guest_writes, inode,
    size, write,
};
use tests::wire::{
    Header, LOG_PROGRAM, LogClient, OPEN_TRUNCATE, Position, RpcError, Writer, kind,
};

tests::both! { Virtlogd:
    the_reply_has_48_bytes_and_one_descriptor,
    the_pipe_is_write_only_and_blocking,
    a_new_file_is_private,
    an_existing_file_is_continued_and_keeps_its_mode,
    what_a_guest_writes_is_in_the_file,
    a_missing_directory_is_an_error,
    a_path_that_ends_in_a_slash_is_no_file,
    an_empty_path_is_no_file,
    older_parts_of_a_path_that_ends_in_a_slash_are_behind_it,
    an_open_path_is_busy,
    a_path_is_free_again_once_the_guest_has_gone,
    a_log_lives_as_long_as_any_copy_of_its_pipe,
    a_log_outlives_the_client_that_opened_it,
    a_log_can_be_opened_that_a_file_server_has_a_lease_on,
    truncate_removes_the_file_and_the_backups_in_use,
    truncate_cannot_remove_a_directory,
    truncate_of_a_path_that_ends_in_a_slash_fails,
    unknown_flags_are_ignored,
    a_path_ends_at_its_first_nul,
    a_relative_path_starts_in_the_current_directory,
    a_symbolic_link_is_followed,
    paths_are_compared_as_bytes,
    too_many_backups_are_refused_at_open,
    a_path_over_4_mib_cannot_be_decoded,
    unknown_procedures_are_named,
}

tests::ours! { Virtlogd:
    descriptors_sent_along_do_not_come_back,
    a_path_is_free_at_once_after_the_guest_has_gone,
    fifos_directories_and_devices_are_refused_at_once,
    the_pid_file_is_no_log,
}

fn the_reply_has_48_bytes_and_one_descriptor(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.connect_main();
    client.send(&open_call(kind::CALL).message(&arguments(&path))).unwrap();
    let frame = client.answer().message();
    assert_eq!((frame.bytes.len(), frame.header.kind), (48, kind::REPLY_WITH_FDS));
    assert_eq!(frame.fds.len(), 1);
}

fn the_pipe_is_write_only_and_blocking(subject: Subject) {
    let daemon = subject.start();
    let log = daemon.log_client().open(&daemon.file("a.log")).unwrap();
    let flags = OFlag::from_bits_retain(fcntl(&log.pipe, FcntlArg::F_GETFL).unwrap());
    assert_eq!(flags & OFlag::O_ACCMODE, OFlag::O_WRONLY);
    assert!(!flags.contains(OFlag::O_NONBLOCK));
}

fn a_new_file_is_private(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let log = daemon.log_client().open(&path).unwrap();
    assert_eq!((log.position.inode, log.position.offset), (inode(&path), 0));
    assert_eq!(mode(&path), 0o600);
}

fn an_existing_file_is_continued_and_keeps_its_mode(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    write(&path, "old\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut log = daemon.log_client().open(&path).unwrap();
    assert_eq!((log.position.inode, log.position.offset), (inode(&path), 4));
    log.pipe.write_all(b"new\n").unwrap();
    expect_file(&path, "old\nnew\n");
    assert_eq!(mode(&path), 0o640);
}

fn what_a_guest_writes_is_in_the_file(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    let text: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
    log.pipe.write_all(text.as_bytes()).unwrap();
    expect_file(&path, text);
}

fn a_missing_directory_is_an_error(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("none/a.log");
    let error = daemon.log_client().open(&path).unwrap_err();
    let text = format!("Unable to open file: {}: No such file or directory", path.display());
    assert_eq!(error, RpcError::system(0, Errno::ENOENT as i32, &text));
}

fn a_path_that_ends_in_a_slash_is_no_file(subject: Subject) {
    let daemon = subject.start();
    write(&daemon.file("file"), "");
    symlink("nowhere", daemon.file("dangling")).unwrap();
    fs::create_dir(daemon.file("directory")).unwrap();
    let mut client = daemon.log_client();
    for (name, errno, text) in [
        ("directory/", Errno::EISDIR, "Is a directory"),
        ("none/", Errno::EISDIR, "Is a directory"),
        ("none//", Errno::EISDIR, "Is a directory"),
        ("file/", Errno::EISDIR, "Is a directory"),
        ("dangling/", Errno::EISDIR, "Is a directory"),
        ("none/none/", Errno::ENOENT, "No such file or directory"),
        ("file/none/", Errno::ENOTDIR, "Not a directory"),
    ] {
        let path = daemon.file("").join(name);
        let text = format!("Unable to open file: {}: {text}", path.display());
        let wanted = RpcError::system(0, errno as i32, &text);
        assert_eq!(client.open(&path).unwrap_err(), wanted);
        assert_eq!(client.append(&path, b"message").unwrap_err(), wanted);
    }
}

fn truncate_of_a_path_that_ends_in_a_slash_fails(subject: Subject) {
    let daemon = subject.start();
    write(&daemon.file("file"), "kept");
    fs::create_dir(daemon.file("directory")).unwrap();
    symlink("directory", daemon.file("link")).unwrap();
    symlink("nowhere", daemon.file("dangling")).unwrap();
    for (name, errno, text) in [
        ("directory/", Errno::EISDIR, "Unable to delete file PATH: Is a directory"),
        ("link/", Errno::ENOTDIR, "Unable to delete file PATH: Not a directory"),
        ("dangling/", Errno::ENOTDIR, "Unable to delete file PATH: Not a directory"),
        ("none/", Errno::EISDIR, "Unable to open file: PATH: Is a directory"),
        ("file/", Errno::ENOTDIR, "Unable to delete file PATH: Not a directory"),
    ] {
        let path = daemon.file("").join(name);
        let bytes = path.as_os_str().as_bytes();
        let error = daemon.log_client().open_with(bytes, OPEN_TRUNCATE).unwrap_err();
        let text = text.replace("PATH", &path.display().to_string());
        assert_eq!(error, RpcError::system(0, errno as i32, &text));
    }
    expect_file(&daemon.file("file"), "kept");
}

fn an_empty_path_is_no_file(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.log_client();
    let error = RpcError::system(
        0,
        Errno::ENOENT as i32,
        "Unable to open file: : No such file or directory",
    );
    assert_eq!(client.open_with(b"", 0).unwrap_err(), error);
    assert_eq!(client.open_with(b"", OPEN_TRUNCATE).unwrap_err(), error);
    assert_eq!(client.append(Path::new(""), "text").unwrap_err(), error);
}

/// So a directory's older parts are files in it.
fn older_parts_of_a_path_that_ends_in_a_slash_are_behind_it(subject: Subject) {
    let daemon = subject.start();
    let directory = daemon.file("");
    let part = daemon.file(".0");
    write(&part, "older");
    let start = Position { inode: inode(&part), offset: 0 };
    assert_eq!(daemon.log_client().read(&directory, start, 5).unwrap(), b"older");
}

fn an_open_path_is_busy(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let _log = client.open(&path).unwrap();
    let error = client.open(&path).unwrap_err();
    assert_eq!(error, busy(&path));
}

fn a_path_is_free_again_once_the_guest_has_gone(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    drop(client.open(&path).unwrap());
    eventually("the log is closed", || client.position(&path).is_err());
    client.open(&path).unwrap();
}

fn a_log_lives_as_long_as_any_copy_of_its_pipe(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    let mut copy = log.pipe.try_clone().unwrap();
    drop(log);
    copy.write_all(b"still here\n").unwrap();
    expect_file(&path, "still here\n");
    client.position(&path).unwrap();
    drop(copy);
    eventually("the log is closed", || client.position(&path).is_err());
}

fn a_log_outlives_the_client_that_opened_it(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    daemon.log_client().position(&path).unwrap();
    log.pipe.write_all(b"alone\n").unwrap();
    expect_file(&path, "alone\n");
}

fn truncate_removes_the_file_and_the_backups_in_use(subject: Subject) {
    let daemon = subject.start_with("max_backups = 2");
    let path = daemon.file("a.log");
    write(&path, "old");
    (0..3).for_each(|index| write(&backup(&path, index), "older"));
    let old = fs::File::open(&path).unwrap();
    let log = daemon.log_client().open_with(path.as_os_str().as_bytes(), OPEN_TRUNCATE).unwrap();
    assert_eq!(log.position.offset, 0);
    assert_eq!(old.metadata().unwrap().len(), 3, "the old file is removed, not emptied");
    assert_eq!(size(&path), Some(0));
    expect_missing(&backup(&path, 0));
    expect_missing(&backup(&path, 1));
    expect_file(&backup(&path, 2), "older");
}

fn truncate_cannot_remove_a_directory(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("directory");
    fs::create_dir(&path).unwrap();
    let bytes = path.as_os_str().as_bytes();
    let error = daemon.log_client().open_with(bytes, OPEN_TRUNCATE).unwrap_err();
    let text = format!("Unable to delete file {}: Is a directory", path.display());
    assert_eq!(error, RpcError::system(0, Errno::EISDIR as i32, &text));
}

fn unknown_flags_are_ignored(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.log_client();
    for (name, flags, offset) in [("a", 0xffff_fffe_u32, 3), ("b", u32::MAX, 0)] {
        let path = daemon.file(name);
        write(&path, "old");
        let log = client.open_with(path.as_os_str().as_bytes(), flags).unwrap();
        assert_eq!(log.position.offset, offset, "flags {flags:#x}");
    }
}

fn a_path_ends_at_its_first_nul(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a");
    let mut client = daemon.log_client();
    let long = [path.as_os_str().as_bytes(), b"\0b"].concat();
    let _log = client.open_with(&long, 0).unwrap();
    client.position(&path).unwrap();
    assert!(path.exists());
}

fn a_relative_path_starts_in_the_current_directory(subject: Subject) {
    let setup = subject.setup();
    let directory = setup.host().path("files");
    let daemon = setup.cwd(&directory).start();
    let _log = daemon.log_client().open(Path::new("a.log")).unwrap();
    assert!(directory.join("a.log").exists());
}

fn a_symbolic_link_is_followed(subject: Subject) {
    let daemon = subject.start();
    let (path, target) = (daemon.file("link"), daemon.file("target"));
    symlink(&target, &path).unwrap();
    let mut log = daemon.log_client().open(&path).unwrap();
    log.pipe.write_all(b"through\n").unwrap();
    expect_file(&target, "through\n");
}

fn paths_are_compared_as_bytes(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.log_client();
    let path = daemon.file("a.log");
    let alias = path.display().to_string().replace("/a.log", "//a.log");
    let _log = client.open(&path).unwrap();
    let _other = client.open(Path::new(&alias)).unwrap();
}

fn too_many_backups_are_refused_at_open(subject: Subject) {
    let daemon = subject.start_with("max_backups = 33");
    let path = daemon.file("a.log");
    let error = daemon.log_client().open(&path).unwrap_err();
    assert_eq!(error, too_many_backups());
    assert_eq!(daemon.log_client().append(&path, "x").unwrap_err(), too_many_backups());
    let start = Position { inode: 0, offset: 0 };
    assert_eq!(daemon.log_client().read(&path, start, 10).unwrap_err(), too_many_backups());
}

fn a_path_over_4_mib_cannot_be_decoded(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.log_client();
    let error = client.open_with(&vec![b'a'; 4_194_305], 0).unwrap_err();
    assert_eq!(error, RpcError::rpc("Unable to decode message payload"));
    client.open(&daemon.file("a.log")).unwrap();
}

fn unknown_procedures_are_named(subject: Subject) {
    let daemon = subject.start();
    for procedure in [0, 5, -1] {
        let error = daemon.connect_main().call(LOG_PROGRAM, procedure, &[]).unwrap_err();
        assert_eq!(error, RpcError::rpc(&format!("unknown procedure: {procedure}")));
    }
}

/// C answers with the caller's own descriptors in front of the pipe.
fn descriptors_sent_along_do_not_come_back(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let null = fs::File::open("/dev/null").unwrap();
    let mut client = daemon.connect_main();
    let payload = [Writer::new().u32(2).into_bytes(), arguments(&path)].concat();
    client.send(&open_call(kind::CALL_WITH_FDS).message(&payload)).unwrap();
    client.send_fds(&[null.as_fd(); 2]).unwrap();
    let (_, mut fds) = client.answer().message().into_result().unwrap();
    assert_eq!(fds.len(), 1);
    fs::File::from(fds.remove(0)).write_all(b"the pipe\n").unwrap();
    expect_file(&path, "the pipe\n");
}

/// In C the end of file waits for its turn, and until then the path is busy.
fn a_path_is_free_at_once_after_the_guest_has_gone(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut client = daemon.log_client();
    let mut busy = 0;
    for _ in 0..200 {
        let mut log = loop {
            match client.open(&path) {
                Ok(log) => break log,
                // A process that another test has just started has a copy of the pipe for a moment.
                Err(error) if error.int1 == Errno::EBUSY as i32 && busy < 10 => {
                    busy += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Err(error) => panic!("{error:?}"),
            }
        };
        log.pipe.write_all(b"x\n").unwrap();
    }
    expect_file(&path, "x\n".repeat(200));
}

/// In C a FIFO blocks the whole daemon.
fn fifos_directories_and_devices_are_refused_at_once(subject: Subject) {
    let daemon = subject.start();
    let fifo = daemon.file("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut client = daemon.log_client();
    for path in [fifo.as_path(), &daemon.file(""), Path::new("/dev/null")] {
        refuses_everything(&mut client, path);
    }
}

fn a_log_can_be_opened_that_a_file_server_has_a_lease_on(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    fs::write(&path, "before\n").unwrap();
    let _lease = FcntlLease::polite(&path);
    let log = daemon.log_client().open(&path).unwrap();
    guest_writes(&log.pipe, *b"line\n");
    expect_file(&path, "before\nline\n");
}

/// Closing it again would free its lock.
fn the_pid_file_is_no_log(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.log_client();
    let alias = daemon.file("alias");
    fs::hard_link(daemon.pid_file(), &alias).unwrap();
    refuses_everything(&mut client, &alias);
    assert_eq!(fs::read_to_string(&alias).unwrap(), daemon.pid().to_string());
    let second = subject.setup_on(&daemon.host()).run();
    assert_eq!(second.code, Some(1), "{}", second.stderr);
}

fn refuses_everything(client: &mut LogClient, path: &Path) {
    let start = Position { inode: inode(path), offset: 0 };
    for error in [
        client.open(path).unwrap_err(),
        client.append(path, "x").unwrap_err(),
        client.read(path, start, 10).unwrap_err(),
    ] {
        assert_eq!((error.code, error.domain), (38, 0), "{}: {error:?}", path.display());
    }
}

fn open_call(kind: u32) -> Header {
    Header { kind, ..Header::call(LOG_PROGRAM, 1) }
}

fn arguments(path: &Path) -> Vec<u8> {
    LogClient::open_arguments(path.as_os_str().as_bytes(), 0)
}

fn busy(path: &Path) -> RpcError {
    let text = format!("Cannot open log file: '{}': Device or resource busy", path.display());
    RpcError::system(63, Errno::EBUSY as i32, &text)
}

fn too_many_backups() -> RpcError {
    let detail = "Max backup 33 must be less than or equal to 32";
    RpcError::templated(67, 0, "unsupported configuration: ", detail)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

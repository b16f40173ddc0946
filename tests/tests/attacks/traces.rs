//! What a daemon leaves to others: descriptors to the programs that it executes, and files to whoever
//! can read them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use nix::libc;
use tests::harness::{Daemon, Program, Subject, Whose, eventually};

use crate::bystanders::{expect_unharmed, start};

mod virtlogd {
    use super::*;

    tests::ours! { Virtlogd: no_descriptor_is_inherited, no_file_is_anybodys }
}

mod virtlockd {
    use super::*;

    tests::ours! { Virtlockd: no_descriptor_is_inherited, no_file_is_anybodys }
}

/// CVE-2020-14339: each is closed when another program is executed, before an upgrade and after it.
fn no_descriptor_is_inherited(subject: Subject) {
    let mut daemon = subject.setup().confined().replaceable().start();
    let clients: Vec<_> = (0..5).map(|_| daemon.connect_main()).collect();
    expect_closed_at_exec(&daemon);
    daemon.change_to(Whose::Ours);
    expect_closed_at_exec(&daemon);
    drop(clients);
    expect_unharmed(&mut daemon, expect_closed_at_exec);
}

#[track_caller]
fn expect_closed_at_exec(daemon: &Daemon) {
    const STANDARD: [&str; 3] = ["0", "1", "2"];
    let is_open_at_exec = |number: &str| {
        let info = fs::read_to_string(daemon.proc(&format!("fdinfo/{number}"))).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
    };
    let numbers = fs::read_dir(daemon.proc("fd")).unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().into_string().ok());
    let open: Vec<_> = numbers
        .filter(|number| !STANDARD.contains(&number.as_str()) && is_open_at_exec(number))
        .collect();
    assert!(open.is_empty(), "{open:?}");
}

/// CVE-2025-13193: whatever the umask that it was started with.
fn no_file_is_anybodys(subject: Subject) {
    let daemon = subject.setup().confined().prepare("umask 0").start();
    if subject.program == Program::Virtlogd {
        let path = daemon.file("a.log");
        daemon.log_client().open(&path).unwrap().pipe.write_all(b"line\n").unwrap();
        eventually("the line is there", || fs::read(&path).unwrap_or_default() == b"line\n");
        assert_eq!(mode(&path), 0o600);
    }
    let run = daemon.run_directory();
    let files = fs::read_dir(&run).unwrap().flatten().map(|entry| entry.path());
    let open: Vec<_> = files.filter(|path| path.is_file() && mode(path) & 0o022 != 0).collect();
    assert!(open.is_empty(), "{open:?} can be written by others");
    drop(start(subject));
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

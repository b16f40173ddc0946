use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;

use super::super::{Level, Settings};
use super::*;
use crate::sys::fd::set_nonblocking;

/// Log file of a process of [`panics`].
const LOG: &str = "VIRT_TESTS_PANIC_LOG";

#[test]
#[ignore = "not a test: others run it as a process of its own"]
fn panics() {
    let Ok(path) = std::env::var(LOG) else { return };
    let outputs = format!("1:file:{path}");
    let settings = Settings { level: Level::Info, outputs, ..Settings::default() };
    Logger::install_with(settings, FLUSH_PERIOD).unwrap().use_threads();
    bound_panics();
    tracing::info!(target: "daemon", "before");
    panic!("as a test");
}

fn command(log: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "logging::end::tests::panics", "--ignored", "--nocapture"]);
    command.env(LOG, log).stdout(Stdio::null());
    command
}

fn expect_logged(log: &Path) {
    let said = std::fs::read_to_string(log).unwrap();
    let last: Vec<_> = said.lines().rev().take(2).collect();
    assert!(last[0].contains(": error : ") && last[0].contains("as a test"), "{said}");
    assert!(last[1].ends_with(" : before"), "{said}");
}

#[test]
fn a_panic_is_logged_behind_everything_else_and_written_to_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let output = command(&log).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("as a test"));
    expect_logged(&log);
}

#[test]
fn a_panic_ends_the_process_although_nobody_reads_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (mut unread, mut stderr) = io::pipe().unwrap();
    set_nonblocking(&stderr).unwrap();
    while stderr.write_all(&[0; 4096]).is_ok() {}
    let blocking = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty());
    nix::fcntl::fcntl(&stderr, blocking).unwrap();
    let status = command(&log).stderr(stderr).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    expect_logged(&log);
    unread.read_exact(&mut [0]).unwrap();
}

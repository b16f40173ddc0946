//! The demonstration keeps its promises, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::eventually;

/// What a newcomer is to see, in this order.
const KEY_LINES: [&str; 13] = [
    "virtlogd runs: pid ",
    "Guest alpha runs: pid ",
    "         line ",
    "All 10000 lines are there, each once and in order; no line was cut in two.",
    "beta's log has 30000 bytes: all 600 lines, in order.",
    "virtlockd runs: pid ",
    "gamma asks for disk.img: granted",
    "delta asks for disk.img: refused",
    "virtlockd was told to execute its successor (SIGUSR1);",
    "delta asks for disk.img: refused",
    "gamma was killed",
    "delta asks for disk.img: granted, ",
    "All as promised.",
];

#[test]
fn it_shows_what_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(dir.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(stderr, "");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut lines = stdout.lines();
    for key in KEY_LINES {
        assert!(lines.any(|line| line.starts_with(key)), "no '{key}' in its place in:\n{stdout}");
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn interrupted_it_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut demo, pids) = half_way(dir.path());
    signal(&demo, Signal::SIGTERM);
    let mut stderr = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1), "{stderr}");
    assert_eq!(stderr, "\nThe demo failed: interrupted.\n");
    assert!(is_empty(dir.path()));
    assert!(pids.into_iter().all(has_ended), "somebody was left behind");
}

#[test]
fn killed_it_leaves_no_process_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut demo, pids) = half_way(dir.path());
    signal(&demo, Signal::SIGKILL);
    demo.wait().unwrap();
    eventually("all have ended", || pids.iter().all(|&pid| has_ended(pid)));
}

#[test]
fn it_fails_when_a_daemon_dies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut demo, pids) = half_way(dir.path());
    kill(pids[0], Signal::SIGKILL).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert!(is_empty(dir.path()));
    assert!(pids.into_iter().all(has_ended), "somebody was left behind");
}

/// The demo, with its scratch directory below `dir`.
fn demo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env("TMPDIR", dir);
    command
}

/// A demo whose virtlogd and first guest run, and the pids of these two.
fn half_way(dir: &Path) -> (Child, [Pid; 2]) {
    let mut child =
        demo(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    // Kept open: the demo goes on to write.
    let stdout = child.stdout.as_mut().unwrap();
    let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
    let pids = ["virtlogd runs: pid ", "Guest alpha runs: pid "].map(|key| {
        let line = lines.find(|line| line.starts_with(key)).expect("what it says first");
        let digits = line[key.len()..].split(',').next().unwrap();
        Pid::from_raw(digits.parse().unwrap())
    });
    (child, pids)
}

fn signal(demo: &Child, signal: Signal) {
    kill(Pid::from_raw(demo.id().cast_signed()), signal).unwrap();
}

/// A zombie has ended too: in a container perhaps nobody reaps orphans.
fn has_ended(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.map_or(true, |status| status.contains("State:\tZ"))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

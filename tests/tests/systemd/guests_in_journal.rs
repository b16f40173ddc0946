//! The service that passes guests' output on to the journal, under a real systemd and its journal.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::harness::{Program, eventually};
use tests::machine::{enable, expect_property, journal, main_socket, property, succeed, systemctl};
use tests::wire::LogClient;

tests::on_machine! { Ours: the_journal_has_the_lines_of_a_guest }

const UNIT: &str = "virtlogd-journal.service";

fn the_journal_has_the_lines_of_a_guest() {
    let verdict = succeed("sh", &["-c", &format!("systemd-analyze verify --man=no {UNIT} 2>&1")]);
    assert!(!verdict.contains(UNIT), "{verdict}");
    let table = succeed("systemd-analyze", &["security", "--no-pager", "--threshold=20", UNIT]);
    assert!(table.contains("Overall exposure"), "{table}");
    enable(Program::Virtlogd);
    let path = Path::new("/var/log/libvirt/qemu/web1.log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    systemctl(&["start", UNIT]);
    eventually("it follows", || Path::new("/var/lib/virtlogd-journal/state").exists());
    let mut log = client.open_of("web1", path).unwrap();
    let mut expected = String::new();
    let mut write = |line: &str| {
        writeln!(log.pipe, "{line}").unwrap();
        expected += &format!("{line}\n");
        expected.clone()
    };
    expect_lines(&write("a line"));
    let pid = property(UNIT, "MainPID");
    systemctl(&["restart", "virtlogd.service"]);
    expect_lines(&write("the daemon was restarted"));
    assert_eq!(property(UNIT, "MainPID"), pid, "that goes on");
    systemctl(&["kill", "--signal", Signal::SIGKILL.as_str(), UNIT]);
    write("it was killed");
    expect_property(UNIT, "NRestarts", "1");
    expect_lines(&write("and is back"));
    systemctl(&["stop", UNIT]);
    write("it was stopped");
    systemctl(&["start", UNIT]);
    expect_lines(&write("and started"));
    let fields =
        ["LIBVIRT_UUID", "LIBVIRT_CHANNEL", "LIBVIRT_LOG_PATH", "_SYSTEMD_UNIT"].map(|field| {
            let arguments = ["--no-pager", "--field", field];
            succeed("journalctl", &arguments)
        });
    let uuid = "abababab-abab-abab-abab-abababababab\n";
    assert_eq!(fields[..3], [uuid, "stdio\n", "/var/log/libvirt/qemu/web1.log\n"]);
    assert!(fields[3].contains(UNIT), "{fields:?}");
}

/// What the journal has of the guest: lines that are there twice after a kill count once.
#[track_caller]
fn expect_lines(expected: &str) {
    let found = || {
        succeed("journalctl", &["--sync"]);
        let found = succeed("journalctl", &["--no-pager", "--output=cat", "LIBVIRT_DOMAIN=web1"]);
        let mut seen = HashSet::new();
        let lines = found.lines().filter(|line| seen.insert(*line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    eventually("the lines are in the journal", || found().len() >= expected.len());
    assert_eq!(found(), expected, "{}", journal(UNIT));
}

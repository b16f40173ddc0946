//! The pages about the tools: each command on them does what it is there for.

use std::fs;

use nix::sys::signal::Signal;
use tests::guest::owner;
use tests::harness::{Daemon, Subject, write};

use super::Sleeper;
use super::follower::{Follower, Journal};
use super::tool::tool;

tests::ours! { Virtlogd: commands_about_logs_work }
tests::ours! { Virtlockd: commands_about_leases_work }

fn commands_about_logs_work(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("web1.log");
    let log = daemon.log_client().open(&path).unwrap();
    let metrics = daemon.file("virtlogd.prom");
    let state = daemon.host().path("follower.state");
    let _journal = Journal::start(&daemon.host());
    let named = [
        ("web1", "guest"),
        ("/var/log/libvirt/qemu/guest.log", path.to_str().unwrap()),
        ("/var/lib/prometheus/node-exporter/virtlogd.prom", metrics.to_str().unwrap()),
        ("/var/lib/virtlogd-journal/state", state.to_str().unwrap()),
    ];
    assert_eq!(run_all(&daemon, &named), 12);
    assert!(state.exists());
    drop(log);
}

fn commands_about_leases_work(subject: Subject) {
    let daemon = subject.start();
    let image = daemon.file("web1.qcow2");
    write(&image, "");
    let guest = Sleeper::start();
    let mut client = daemon.lock_client();
    client.register(&owner(guest.pid()), 0).unwrap();
    client.acquire("", image.to_str().unwrap(), 0).unwrap();
    let metrics = daemon.file("virtlockd.prom");
    let named = [
        ("/var/lib/libvirt/images/web1.qcow2", image.to_str().unwrap()),
        ("/var/lib/prometheus/node-exporter/virtlockd.prom", metrics.to_str().unwrap()),
    ];
    assert_eq!(run_all(&daemon, &named), 6);
}

/// Runs the commands on the daemon's page, with names of this test's; returns how many there are.
fn run_all(daemon: &Daemon, named: &[(&str, &str)]) -> usize {
    let program = daemon.subject().program;
    let page = format!("{}/../{}/README.md", env!("CARGO_MANIFEST_DIR"), program.name());
    let page = fs::read_to_string(page).unwrap();
    let tool_name = program.tool().file_name().unwrap().to_str().unwrap().to_owned();
    let commands =
        page.lines().filter_map(|line| line.strip_prefix("    ")?.strip_prefix(&tool_name));
    let mut count = 0;
    for command in commands {
        let command = command.split('#').next().unwrap();
        count += 1;
        let command = named.iter().fold(command.to_owned(), |it, (from, to)| it.replace(from, to));
        let words: Vec<_> = command.split_whitespace().collect();
        if let Some(("follow", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
            follow(daemon, rest);
            continue;
        }
        let printed = tool(daemon, words);
        assert_eq!((printed.status, &*printed.stderr), (Some(0), ""), "{command}");
    }
    count
}

/// Runs a command that does not end.
fn follow(daemon: &Daemon, words: &[&str]) {
    let Some(("--all", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) else {
        // See `virtlogctl`.
        return;
    };
    let mut follower = Follower::start(daemon, rest);
    assert_eq!((follower.end(Signal::SIGTERM), &*follower.stderr()), (Some(0), ""), "{words:?}");
}

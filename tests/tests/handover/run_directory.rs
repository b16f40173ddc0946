//! What lies in the run directory, or cannot: an old document, a full or read-only file system, a
//! second daemon.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::harness::{
    Daemon, Program, Subject, Whose, expect_file, expect_missing, guest_writes, needs_root,
};
use tests::load::{Pace, Writer};
use tests::wire::{LogClient, OpenLog};

mod virtlogd {
    use super::*;
    tests::both! { Virtlogd: a_document_of_another_process_is_ignored }
    tests::ours! { Virtlogd:
        a_document_of_nonsense_is_ignored,
        a_second_daemon_does_not_disturb_the_first,
        a_full_run_directory_does_not_stop_ours,
        a_read_only_run_directory_does_not_stop_ours,
    }
    tests::mixed! { Virtlogd: a_full_run_directory_keeps_ours_from_giving_way_to_theirs }
}

mod virtlockd {
    use super::*;
    tests::both! { Virtlockd: a_document_of_another_process_is_ignored }
    tests::ours! { Virtlockd:
        a_document_of_nonsense_is_ignored,
        a_second_daemon_does_not_disturb_the_first,
    }
}

const SOCKET: &str = "/run/libvirt/virtlogd-sock";
const NOT_WRITTEN: &str =
    "Unable to write the state file /run/virtlogd-restart-exec.json at the upgrade: ";
const FULL: &str = "mount -n -t tmpfs -o size=64k tmpfs /run";

fn a_document_of_another_process_is_ignored(subject: Subject) {
    let setup = subject.setup();
    // In the recorded document of the log daemon as of the lock daemon it is the first thing read.
    let document = r#"{"daemon": {"servers": {}}, "magic": "1", "handler": {"files": []}}"#;
    fs::write(setup.host().path(&state(subject.program)), document).unwrap();
    let daemon = setup.start();
    expect_service(&daemon);
}

fn a_document_of_nonsense_is_ignored(subject: Subject) {
    for document in ["", "{", "[]", "\0\0\0", "{\"magic\": \"1\""] {
        let setup = subject.setup();
        fs::write(setup.host().path(&state(subject.program)), document).unwrap();
        let daemon = setup.start();
        expect_service(&daemon);
    }
}

/// It must not take the document of an upgrade that is under way, nor the sockets.
fn a_second_daemon_does_not_disturb_the_first(subject: Subject) {
    const UPGRADES: usize = 20;
    let mut daemon = subject.setup().replaceable().start();
    let ending = Arc::new(AtomicBool::new(false));
    let (told, host) = (Arc::clone(&ending), daemon.host());
    let others = std::thread::spawn(move || {
        let mut count = 0;
        while !told.load(Ordering::Relaxed) {
            let exit = subject.setup_on(&host).run();
            assert!(matches!(exit.code, Some(1 | 6)), "{exit:?}");
            count += 1;
        }
        count
    });
    let writer = (subject.program == Program::Virtlogd).then(|| {
        let path = daemon.file("a.log");
        let pipe = daemon.log_client().open(&path).unwrap().pipe;
        Writer::start(&path, pipe, Pace::Lines)
    });
    for _ in 0..UPGRADES {
        daemon.change_to(Whose::Ours);
        expect_service(&daemon);
    }
    ending.store(true, Ordering::Relaxed);
    assert!(others.join().expect("every other daemon ends at once") > 0);
    writer.into_iter().for_each(Writer::finish);
    daemon.change_to(Whose::Ours);
    expect_service(&daemon);
}

fn a_full_run_directory_does_not_stop_ours(subject: Subject) {
    let mut daemon = subject.setup().prepare(FULL).replaceable().start();
    let log = open(&daemon);
    fill(&daemon);
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
    }
    daemon.expect_said(NOT_WRITTEN);
    expect_log(&daemon, &log);
}

fn a_read_only_run_directory_does_not_stop_ours(subject: Subject) {
    if !needs_root("a read-only run directory") {
        return;
    }
    let mut daemon = subject.setup().cwd("/".as_ref()).replaceable().start();
    let log = open(&daemon);
    // Mounted once more: where a file is open for writing it cannot be made read-only.
    let script = "mount -n --bind /run /run && mount -n -o remount,bind,ro /run";
    let pid = daemon.pid().to_string();
    let mounted = Command::new("nsenter")
        .args(["--mount", "--target", &pid, "sh", "-c", script])
        .status()
        .unwrap();
    assert!(mounted.success());
    fs::write(daemon.inside("/run/probe"), "").unwrap_err();
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
    }
    daemon.expect_said(NOT_WRITTEN);
    expect_log(&daemon, &log);
}

/// libvirt's daemon finds its document only there.
fn a_full_run_directory_keeps_ours_from_giving_way_to_theirs(route: tests::harness::Route) {
    let ours = route.start().other();
    let mut daemon = ours.setup().prepare(FULL).replaceable().start();
    let log = open(&daemon);
    let filler = fill(&daemon);
    daemon.put(Whose::Theirs);
    daemon.upgrade_is_refused();
    expect_log(&daemon, &log);
    fs::remove_file(filler).unwrap();
    daemon.change_to(Whose::Theirs);
    guest_writes(&log.pipe, *b"and again\n");
    expect_file(&daemon.file("a.log"), "still there\nand again\n");
}

fn state(program: Program) -> String {
    format!("run/{}-restart-exec.json", program.name())
}

fn open(daemon: &Daemon) -> OpenLog {
    let mut client = LogClient::connect(&daemon.inside(SOCKET)).unwrap();
    client.open(&daemon.file("a.log")).unwrap()
}

/// Leaves no room in the daemon's `/run`; returns the file that took it.
fn fill(daemon: &Daemon) -> std::path::PathBuf {
    let path = daemon.inside("/run/filler");
    let mut filler = fs::File::create(&path).unwrap();
    for size in [4096, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

/// The guest and new clients are served.
fn expect_log(daemon: &Daemon, log: &OpenLog) {
    let path = daemon.file("a.log");
    guest_writes(&log.pipe, *b"still there\n");
    expect_file(&path, "still there\n");
    let mut client = LogClient::connect(&daemon.inside(SOCKET)).unwrap();
    assert_eq!(client.position(&path).unwrap().offset, 12);
}

fn expect_service(daemon: &Daemon) {
    let number = daemon.subject().program.number();
    assert_eq!(daemon.connect_main().call(number, 99, &[]).unwrap_err().code, 39);
    expect_missing(&daemon.host().path(&state(daemon.subject().program)));
}

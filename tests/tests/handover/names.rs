//! A daemon that was started under a name that does not lead to its program, or not any more.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tests::harness::{Daemon, Setup, Subject, Whose, eventually};

mod virtlogd {
    use super::*;
    tests::both! { Virtlogd: a_name_is_looked_for_in_path }
    tests::ours! { Virtlogd:
        a_name_that_is_nowhere_stands_for_what_was_executed,
        a_relative_path_is_not_lost_with_the_working_directory,
        a_link_leads_where_it_points_now,
        what_was_executed_has_gone,
    }
}

mod virtlockd {
    use super::*;
    tests::both! { Virtlockd: a_name_is_looked_for_in_path }
    tests::ours! { Virtlockd:
        a_name_that_is_nowhere_stands_for_what_was_executed,
        a_relative_path_is_not_lost_with_the_working_directory,
        a_link_leads_where_it_points_now,
        what_was_executed_has_gone,
    }
}

/// Executes the daemon under a name without a slash.
const NAMELESS: &str = r#"exec -a nowhere-to-be-found "$0" "$@""#;

fn a_name_that_is_nowhere_stands_for_what_was_executed(subject: Subject) {
    let mut daemon = called(subject, NAMELESS).start();
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
        let arguments = fs::read(daemon.proc("cmdline")).unwrap();
        assert!(arguments.starts_with(b"nowhere-to-be-found\0"), "it keeps its name");
    }
}

fn a_relative_path_is_not_lost_with_the_working_directory(subject: Subject) {
    for name in ["nowhere-to-be-found", "./\"${0##*/}\""] {
        let script = format!(r#"cd "${{0%/*}}" && exec -a {name} ./"${{0##*/}}" "$@""#);
        let mut daemon = called(subject, &script).start_detached();
        daemon.change_to(Whose::Ours);
        daemon.change_to(Whose::Ours);
    }
}

/// As distributions have it whose packages have directories of their own.
fn a_link_leads_where_it_points_now(subject: Subject) {
    let script = r#"ln -s "$0" "$0.link" && exec -a nowhere-to-be-found "$0.link" "$@""#;
    let daemon = called(subject, script).start();
    let program = daemon.host().executable(subject.program);
    let link = program.with_extension("link");
    let next = copy(&daemon, "next");
    fs::remove_file(&link).unwrap();
    symlink(&next, &link).unwrap();
    expect_upgrade_to(&daemon, &next);
}

fn what_was_executed_has_gone(subject: Subject) {
    let mut daemon = called(subject, NAMELESS).start();
    let program = daemon.host().executable(subject.program);
    fs::rename(&program, program.with_extension("old")).unwrap();
    let status = daemon.upgrade_is_refused();
    let reason = format!("{}: No such file or directory", program.display());
    assert!(status.contains(&reason), "{status}");
    daemon.change_to(Whose::Ours);
}

/// Also if what was executed is elsewhere, as in libvirt's daemons.
fn a_name_is_looked_for_in_path(subject: Subject) {
    let setup = called(subject, r#"exec -a "${0##*/}" "$0" "$@""#);
    let host = setup.host();
    let directory = host.path("bin/first");
    fs::create_dir(&directory).unwrap();
    let daemon = setup.env("PATH", format!("{}:/usr/bin:/bin", directory.display())).start();
    let found = copy(&daemon, &format!("first/{}", subject.program.name()));
    expect_upgrade_to(&daemon, &found);
}

/// Executed by a shell command: `$0` is the program.
fn called(subject: Subject, command: &str) -> Setup {
    subject.setup().replaceable().through(["bash", "-c", command])
}

/// Another copy of the daemon's program.
fn copy(daemon: &Daemon, name: &str) -> PathBuf {
    let host = daemon.host();
    let program = host.executable(daemon.subject().program);
    let copy = host.path("bin").join(name);
    host.put(daemon.subject());
    fs::rename(&program, &copy).unwrap();
    host.put(daemon.subject());
    copy
}

#[track_caller]
fn expect_upgrade_to(daemon: &Daemon, program: &Path) {
    daemon.signal(Signal::SIGUSR1);
    eventually("the other program runs", || {
        fs::read_link(daemon.proc("exe")).is_ok_and(|path| path == program)
    });
    eventually("it serves", || {
        daemon.connect_main().call(subject_number(daemon), 99, &[]).is_err()
    });
}

fn subject_number(daemon: &Daemon) -> u32 {
    daemon.subject().program.number()
}

//! A daemon that is process 1 of its pid namespace, as in a container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Daemon, Subject, Whose, eventually, needs_root, refusing};

mod virtlogd {
    use super::*;
    tests::ours! { Virtlogd:
        children_of_others_are_reaped,
        children_of_others_are_reaped_without_the_usual_call,
        its_own_are_not_taken_for_those,
    }
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        children_of_others_are_reaped,
        its_own_are_not_taken_for_those,
    }
}

/// More than are reaped in one go.
const ORPHANS: usize = 300;

fn children_of_others_are_reaped(subject: Subject) {
    reap(subject, "");
}

fn children_of_others_are_reaped_without_the_usual_call(subject: Subject) {
    for errno in [Errno::EPERM, Errno::ENOSYS] {
        reap(subject, &refusing(errno, "wait4").map(|word| format!("'{word}'")).join(" "));
    }
}

fn reap(subject: Subject, through: &str) {
    // Some that it was started with, and then inherited ones.
    let before = format!(r#"for n in 1 2 3; do sleep 0.0$n & done; exec {through} "$0" "$@""#);
    let Some((daemon, first)) = start(subject, &before) else { return };
    let mut parent = leave_orphans(first, ORPHANS, "1000");
    assert!(parent.wait().unwrap().success());
    eventually("it has inherited them", || children(first).len() >= ORPHANS);
    kill(first, Signal::SIGSTOP).unwrap();
    children(first).into_iter().for_each(|orphan| kill(orphan, Signal::SIGKILL).unwrap());
    kill(first, Signal::SIGCONT).unwrap();
    eventually("none is left", || children(first).is_empty());
    drop(daemon);
}

/// An upgrade asks a child, whose answer counts only with its exit status.
fn its_own_are_not_taken_for_those(subject: Subject) {
    let Some((daemon, first)) = start(subject, r#"exec "$0" "$@""#) else { return };
    for _ in 0..5 {
        let mut parents = ["0.01", "0.03", "0.1"].map(|seconds| leave_orphans(first, 30, seconds));
        daemon.put(Whose::Ours);
        let program = fs::metadata(daemon.host().executable(subject.program)).unwrap().ino();
        kill(first, Signal::SIGUSR1).unwrap();
        eventually("another image runs", || {
            let running = fs::metadata(format!("/proc/{first}/exe"));
            running.is_ok_and(|running| running.ino() == program)
        });
        for parent in &mut parents {
            parent.wait().unwrap();
        }
    }
    eventually("none is left", || children(first).is_empty());
    assert!(!daemon.stderr().contains("Upgrade failed"), "{}", daemon.stderr());
}

/// A daemon that a shell, as process 1, became by this command. Gives its number here as well.
fn start(subject: Subject, command: &str) -> Option<(Daemon, Pid)> {
    if !needs_root("a daemon as process 1") {
        return None;
    }
    let words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"];
    let setup = subject.setup().replaceable().through(words.into_iter().chain([command]));
    let daemon = setup.start();
    let outer = Pid::from_raw(daemon.pid().try_into().unwrap());
    let first = children(outer)[0];
    Some((daemon, first))
}

/// Processes whose parent ends at once, and which sleep for so many seconds.
fn leave_orphans(first: Pid, count: usize, seconds: &str) -> Child {
    let script = format!("for n in $(seq {count}); do (sleep {seconds} &) ; done");
    let mut command = Command::new("nsenter");
    command.args(["--target", &first.to_string(), "--pid", "sh", "-c", &script]);
    command.spawn().unwrap()
}

/// The children of a process, those included that have ended and were not reaped.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let number: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let its_parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        (its_parent == parent.to_string()).then(|| Pid::from_raw(number))
    });
    processes.collect()
}

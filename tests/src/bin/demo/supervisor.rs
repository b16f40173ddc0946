//! The process that the user starts: it has the scenes shown by a process of its own, and cleans up
//! however that ends. Every process of the demo dies with the one that started it, and whoever
//! loses its parent becomes a child of this one, which is so sure to know when all have ended.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tempfile::TempDir;

use crate::PAUSE;
use crate::failure::{Failure, promised};
use crate::role::Role;

/// Longer than the scenes take with every one of their own deadlines met; they take 3 s.
const SCENES_PERIOD_MAX: Duration = Duration::from_secs(120);

/// How long the processes that are left may take to end once they were killed.
const END_PERIOD_MAX: Duration = Duration::from_secs(10);

/// The whole demonstration.
pub(crate) fn main() -> ExitCode {
    println!("virtlogd and virtlockd, shown with stand-ins for libvirtd and its guests");
    match demonstrate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nThe demo failed: {failure}.");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<(), Failure> {
    let scratch = tempfile::Builder::new()
        .prefix("virt-demo-")
        .tempdir()
        .map_err(|error| Failure::system("making a scratch directory", error))?;
    println!("Scratch directory: {}", scratch.path().display());
    let shown = show(&scratch);
    let path = scratch.path().to_owned();
    scratch.close().map_err(|error| Failure::system("removing the scratch directory", error))?;
    shown?;
    promised(!path.exists(), "the scratch directory is still there")?;
    println!("\nAll as promised. Every process has ended, the scratch directory is removed.");
    Ok(())
}

/// Runs the scenes to their end and waits for that of every process.
fn show(scratch: &TempDir) -> Result<(), Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Failure::system("handling signals", error))?;
    }
    set_child_subreaper(true).map_err(|error| Failure::system("adopting orphans", error))?;
    let scenes = Role::Scenes
        .command()
        .arg(scratch.path())
        .spawn()
        .map_err(|error| Failure::system("starting a process", error))?;
    let scenes = Pid::from_raw(scenes.id().cast_signed());
    let outcome = wait_for(scenes, &interrupted);
    // Killing what has ended and was waited for could hit another process.
    if outcome.is_err() {
        kill(scenes, Signal::SIGKILL).map_err(|error| Failure::system("ending", error))?;
    }
    wait_for_all()?;
    promised(!interrupted.load(Ordering::SeqCst), "interrupted")?;
    match outcome? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(..) => Err(Failure::Promise("not all came out as promised".into())),
        WaitStatus::Signaled(_, signal, _) => {
            Err(Failure::Promise(format!("the scenes were ended by {signal}")))
        }
        other => Err(Failure::Promise(format!("waiting gave {other:?}"))),
    }
}

/// Waits for the process that shows the scenes; on an error it has not been waited for.
fn wait_for(scenes: Pid, interrupted: &AtomicBool) -> Result<WaitStatus, Failure> {
    let deadline = Instant::now() + SCENES_PERIOD_MAX;
    loop {
        match waitpid(scenes, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(status) => return Ok(status),
            Err(error) => return Err(Failure::system("waiting", error)),
        }
        promised(!interrupted.load(Ordering::SeqCst), "interrupted")?;
        promised(Instant::now() < deadline, "the scenes take too long")?;
        std::thread::sleep(PAUSE);
    }
}

/// Waits until no process of the demo is left, and reaps them.
fn wait_for_all() -> Result<(), Failure> {
    let deadline = Instant::now() + END_PERIOD_MAX;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) => std::thread::sleep(PAUSE),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::system("waiting", error)),
        }
        promised(Instant::now() < deadline, "a process of the demo has not ended")?;
    }
}

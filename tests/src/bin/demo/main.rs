//! A short demonstration that needs nothing installed: both daemons in a scratch directory,
//! processes that stand in for guests, and a check of everything that is said.
//!
//! It is one executable in several roles, told apart by the name it is called by: the program that
//! the user starts only keeps order ([`supervisor`]); in a process of its own it shows the scenes;
//! further processes are the daemons and the guests.

mod daemon;
mod failure;
mod guest;
mod leases;
mod lines;
mod logs;
mod role;
mod supervisor;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use failure::Failure;
use role::Role;

/// Only a demonstration that fails ever waits this long for what must come about.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often it is looked whether it has.
const PAUSE: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let Some(role) = Role::named(&name) else {
        return supervisor::main();
    };
    // Whatever becomes of the process that started this one, nobody is left behind.
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        return report(Err(Failure::system("asking to end with the demo", error)));
    }
    match role {
        Role::Virtlogd => common::startup::main::<virtlogd::Handler>(std::env::args_os()),
        Role::Virtlockd => common::startup::main::<virtlockd::Handler>(std::env::args_os()),
        Role::Scenes => report(show(arguments)),
        Role::Writer => report(guest::write_lines(arguments)),
        Role::DiskUser => report(guest::use_disks(arguments)),
    }
}

fn show(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let scratch = PathBuf::from(arguments.next().ok_or(Failure::Arguments)?);
    logs::show(&scratch)?;
    leases::show(&scratch)
}

fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nThis went wrong: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Says what comes next.
fn title(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.len()));
}

//! `virtlogctl follow --all`: what all logs get from now on, and where it goes.
//!
//! The daemon tells which logs there are; all else is in the files. They are looked at by `stat(2)`:
//! those that grow often, the others once a second. Watches of the kernel (inotify) would make each of
//! the daemon's writes dearer, have limits of their own, and do not work on every file system.

mod follower;
mod guest;
mod lines;
mod listing;
mod log;
mod missed;
mod output;
mod place;
mod schedule;
mod source;
mod state;

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use common::sys::signal::{Request, Signals, listen};
use common::sys::timeout::timeout;
use common::tool::{Connect, Failure};
use nix::poll::{PollFd, PollFlags, poll};

use follower::Follower;
use output::{Form, Journal, Output};

/// What is done with all logs.
#[derive(Debug, Args)]
pub(crate) struct AllOptions {
    /// Follow all logs of the daemon, also those that are opened later
    #[arg(long)]
    pub(crate) all: bool,
    /// Print an object a line
    #[arg(long, requires = "all", conflicts_with = "to")]
    json: bool,
    /// Where lines go: in place of the standard output, to the system's journal
    #[arg(long, value_name = "WHERE", requires = "all")]
    to: Option<Target>,
    /// Keep in FILE what was passed on, and go on there at the next start
    #[arg(long, value_name = "FILE", requires = "all")]
    state: Option<PathBuf>,
    /// Pass on N lines a second at most, of all logs in turn; the others wait in their logs
    #[arg(long, value_name = "N", requires = "all", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

/// Where lines go.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    Journal,
}

/// Passes on what all logs get, until it is ended or nobody reads.
pub(crate) fn follow_all(
    connect: &Connect,
    options: &AllOptions,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let signals = Signals::install().and_then(|signals| listen().map(|()| signals));
    let signals = signals.map_err(|error| Failure::Other(format!("no signals: {error}")))?;
    let form = match (options.to, options.json) {
        (Some(Target::Journal), _) => Form::Journal(Journal::new()?),
        (None, true) => Form::Json(out),
        (None, false) => Form::Text(out),
    };
    let mut output = Output::new(form, options.rate);
    let mut follower = Follower::start(connect, options.state.clone(), &mut output)?;
    loop {
        let pause = follower.pass(&mut output)?;
        output.flush()?;
        if is_ended(&signals, pause) {
            break;
        }
        follower.list_again(connect, &mut output);
        follower.save_again();
    }
    follower.last_pass(&mut output)?;
    output.flush()?;
    follower.save();
    Ok(())
}

/// Waits for a signal, and returns whether it is one that ends this process.
fn is_ended(signals: &Signals, pause: Duration) -> bool {
    let mut polled = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    // A failure of it is a pause that is too short.
    poll(&mut polled, timeout(pause)).ok();
    signals.take().contains(&Request::Stop)
}

//! `virtlogctl`, the program that looks into virtlogd and changes nothing.

mod all;
mod cat;
mod find;
mod follow;
mod list;
mod parts;
mod show;
mod status;
mod subject;
mod why;

use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use common::tool::{Connect, Failure, Metrics, Output, run};

use self::subject::{DAEMON, SUBJECT};

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  failed
  2  wrong command line
  3  there is no such log

Environment:
  LIBVIRT_ADMIN_DEFAULT_URI   the daemon to ask without --connect, if it is a virtlogd";

/// Runs the tool's process to its end.
#[must_use]
pub fn main() -> ExitCode {
    let Options { connect, command } = Options::parse();
    let mut out = BufWriter::new(stdout().lock());
    let done = match &command {
        Command::List(output) => list::list(&connect, *output, &mut out),
        Command::Status(output) => status::status(&connect, *output, &mut out),
        Command::Metrics(metrics) => {
            connect.ask(DAEMON, SUBJECT, |daemon| metrics.print(daemon, &mut out))
        }
        Command::Cat(options) => cat::cat(&connect, options, &mut out),
        Command::Follow(options) => follow::follow(&connect, options, &mut out),
        Command::Why(name) => why::why(&connect, name, &mut out),
    };
    let flushed = out.flush().map_err(Failure::from);
    run("virtlogctl", done.and(flushed))
}

/// Returns the definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    Options::command()
}

/// Looks into virtlogd, the keeper of the logs of virtual machines.
#[derive(Debug, Parser)]
#[command(name = "virtlogctl", version, after_help = AFTER_HELP)]
struct Options {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List open logs: size, bytes of the last minute, rotations, bytes lost, state
    List(Output),
    /// Show the daemon's state, and how many logs are not well
    Status(Output),
    /// Print what the daemon has counted, as OpenMetrics: bytes, losses by reason, rotations
    Metrics(Metrics),
    /// Print a log, from its oldest part on
    Cat(cat::Options),
    /// Print what a log, or all logs, get from now on, until interrupted
    Follow(follow::Options),
    /// Tell why a log is still open, and why it does not grow
    Why(find::Name),
}

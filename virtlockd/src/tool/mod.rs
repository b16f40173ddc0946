//! `virtlockctl`, the program that looks into virtlockd and changes nothing.

mod kernel;
mod list;
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
  3  there is no such image

Environment:
  LIBVIRT_ADMIN_DEFAULT_URI   the daemon to ask without --connect, if it is a virtlockd";

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
        Command::Why(options) => why::why(&connect, options, &mut out),
    };
    let flushed = out.flush().map_err(Failure::from);
    run("virtlockctl", done.and(flushed))
}

/// Returns the definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    Options::command()
}

/// Looks into virtlockd, the holder of disk leases for virtual machines.
#[derive(Debug, Parser)]
#[command(name = "virtlockctl", version, after_help = AFTER_HELP)]
struct Options {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List leases, with a line for each holder
    List(Output),
    /// Show the daemon's state, and how many leases are not whole
    Status(Output),
    /// Print what the daemon has counted, as OpenMetrics: acquisitions, refusals by reason
    Metrics(Metrics),
    /// Tell who holds an image, by whatever name
    Why(why::Options),
}

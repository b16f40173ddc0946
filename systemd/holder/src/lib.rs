//! Holds file descriptors of daemons while these are away, where there is no systemd that does.
//!
//! The protocol and the ways to use it are described in the page of this directory.

mod backing;
mod claim;
mod context;
mod exec;
mod granting;
mod items;
mod log;
mod message;
mod options;
mod packet;
mod parent;
mod poller;
mod receiving;
mod record;
mod serve;
mod server;
mod set;
mod signals;
mod sockets;
mod user;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::options::{Command, Options};

/// Exit statuses for a command line that makes no sense, and when nothing could be begun; those of
/// `sysexits.h` for the latter.
const STATUS_USAGE: u8 = 64;
const STATUS_UNAVAILABLE: u8 = 69;

/// Runs the program by the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    common::sys::memory::bound_free_memory();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // A failure here cannot be reported anywhere.
            error.print().ok();
            let is_asked =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_asked { ExitCode::SUCCESS } else { ExitCode::from(STATUS_USAGE) };
        }
    };
    let failure = match options.command {
        Command::Serve(options) => match serve::serve(&options) {
            Ok(status) => return ExitCode::from(status),
            Err(error) => error.to_string(),
        },
        Command::Run(options) => match serve::run(options) {
            Ok(status) => return ExitCode::from(status),
            Err(error) => error.to_string(),
        },
        Command::Exec(options) => {
            let Err(error) = exec::exec(options);
            error.to_string()
        }
    };
    eprintln!("virtfdhold: {failure}");
    ExitCode::from(STATUS_UNAVAILABLE)
}

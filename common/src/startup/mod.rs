//! Start of a daemon, from the command line to the running loop. It is the same for both, in
//! libvirt's order: options, configuration, logging, run directory, background, pid file, sockets,
//! readiness.

mod assembly;
mod calls;
mod check;
mod configuration;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod origin;
mod pid_file;
mod predecessor;
mod service;
mod sockets;
mod start;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

pub use pid_file::{is_pid_file, own_pid_file};
pub use service::Service;

use crate::cli::{self, Parsed};
use crate::logging;
use crate::sys;

/// Runs a daemon's process to its end; `arguments` starts with the program's name.
pub fn main<S: Service>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    sys::memory::bound_free_memory();
    logging::bound_panics();
    let arguments: Vec<_> = arguments.into_iter().collect();
    if let Some(arguments) = check::asked(&arguments) {
        let (answer, is_well) = check::answer::<S>(arguments);
        print(&mut io::stdout(), &answer);
        return if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let own_name = arguments.first().map_or(S::NAME.into(), |name| name.to_string_lossy());
    let program = cli::Program { name: S::NAME, about: S::ABOUT, version: S::VERSION };
    match cli::parse(&program, arguments.clone()) {
        Parsed::Exit { status, stdout, stderr } => {
            print(&mut io::stdout(), &stdout);
            print(&mut io::stderr(), &stderr);
            ExitCode::from(status)
        }
        Parsed::Run(options) => match start::start::<S>(options, arguments.clone()) {
            Ok(()) => {
                logging::end();
                ExitCode::SUCCESS
            }
            Err(failure) => {
                logging::last_words(&failure.line(&own_name));
                ExitCode::from(failure.status())
            }
        },
    }
}

/// A failure here cannot be reported anywhere.
fn print(stream: &mut impl Write, text: &str) {
    stream.write_all(text.as_bytes()).ok();
}

//! Failures of a tool, and its exit status.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::format::escaped;
use crate::client;
use crate::sys::errno::io_text;

/// Failure of a tool.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what the fields are")]
pub enum Failure {
    /// The daemon could not be asked.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// libvirt's daemon, or an earlier version of ours, has been asked.
    #[error(
        "{}: this is libvirt's daemon, which tells nothing of {what}; virt-admin -c {uri} tells its clients and \
         settings",
        socket.display()
    )]
    Libvirt { socket: PathBuf, what: &'static str, uri: String },
    /// No such log or image.
    #[error("{0}")]
    NotFound(String),
    /// Anything else that the user can do something about.
    #[error("{0}")]
    Other(String),
    /// The answer could not be printed.
    #[error("unable to print: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Returns the failure to read a file.
    #[must_use]
    pub fn of_file(path: &Path, error: &io::Error) -> Self {
        let text = format!("{}: {}", escaped(&path.to_string_lossy()), io_text(error));
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound(text),
            _ => Self::Other(text),
        }
    }

    /// Returns the exit status: 1 for a failure, 3 for something that is not there. 2 is a wrong
    /// command line.
    fn status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 3,
            Self::Client(_) | Self::Libvirt { .. } | Self::Other(_) | Self::Output(_) => 1,
        }
    }
}

/// Returns the exit code of a tool, and prints why it has failed. That nobody reads what it prints any
/// more, as with `head`, is no failure.
pub fn run(name: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // A failure here cannot be reported anywhere.
            writeln!(io::stderr(), "{name}: {failure}").ok();
            ExitCode::from(failure.status())
        }
    }
}

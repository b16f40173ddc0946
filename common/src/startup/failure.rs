//! Failures of a start, with libvirt's exit status and, in the background, libvirt's number for the
//! launcher.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{pid_file, sockets};
use crate::config::{self, Document};
use crate::sys::errno::io_text;
use crate::{cli, logging};

/// Reason why the start failed, in one line.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Paths(#[from] cli::HomeUnknown),
    #[error("Can't load config file: {error}: {}", path.display())]
    Config { path: PathBuf, error: config::Error },
    #[error(transparent)]
    Logging(#[from] logging::Error),
    #[error("unable to create rundir {}: {}", path.display(), io_text(error))]
    RunDir { path: PathBuf, error: io::Error },
    #[error("unable to go into the background: {}", io_text(error))]
    Background { error: io::Error },
    /// In the launcher: the daemon's report.
    #[error("{}. Check /var/log/messages or run without --daemon for more info.", background(.0))]
    InBackground(Option<u8>),
    #[error(transparent)]
    PidFile(#[from] pid_file::Error),
    #[error("unable to set up signal handlers: {}", io_text(.0))]
    Signals(io::Error),
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    #[error(
        "the system call {call} is refused, and the daemon cannot run without it: {}",
        io_text(error)
    )]
    Refused { call: &'static str, error: io::Error },
    #[error("unable to run the event loop: {}", io_text(.0))]
    Loop(io::Error),
}

impl Failure {
    /// Returns the exit status, libvirt's.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::InBackground(_) => 1,
            other => other.number(),
        }
    }

    /// Returns libvirt's number for the kind of failure.
    pub(super) fn number(&self) -> u8 {
        match self {
            Self::Paths(_) | Self::Config { .. } | Self::Logging(_) | Self::PidFile(_) => 1,
            Self::Background { .. } | Self::InBackground(_) => 1,
            Self::RunDir { .. } => 2,
            Self::Refused { .. } | Self::Loop(_) => 3,
            Self::Signals(_) => 4,
            Self::Sockets(_) => 6,
        }
    }

    /// Returns the line for stderr.
    pub(super) fn line(&self, own_name: &str) -> String {
        format!("{own_name}: error: {self}\n")
    }
}

pub(super) fn config(document: &Document, error: config::Error) -> Failure {
    Failure::Config { path: document.path().to_owned(), error }
}

/// Converts the daemon's byte in the launcher.
pub(super) fn of_background(status: Option<u8>) -> Result<(), Failure> {
    match status {
        Some(0) => Ok(()),
        status => Err(Failure::InBackground(status)),
    }
}

/// Returns libvirt's text for a number.
fn background(status: &Option<u8>) -> &'static str {
    match status {
        None => "unable to determine if daemon is running: it ended without a word",
        Some(1) => "Unable to obtain pidfile",
        Some(2) => "Unable to create rundir",
        Some(3) => "Unable to initialize libvirt",
        Some(4) => "Unable to setup signal handlers",
        Some(6) => "Unable to initialize network sockets",
        Some(_) => "Unable to start",
    }
}

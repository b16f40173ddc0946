//! How far an upgrade is.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::event::{Registered, TimerId};
use crate::handover::check::{Check, CheckConfiguration};
use crate::handover::{Successor, Target};

/// What an upgrade needs to know of how this process came about.
pub struct ProcessInfo {
    /// All arguments, the name first.
    pub arguments: Vec<OsString>,
    /// The path that was executed, in case that the name leads nowhere.
    pub executed: Option<PathBuf>,
    /// Where libvirt's daemons look for the document.
    pub state_file: PathBuf,
    /// How many times this process has executed a successor.
    pub generation: u64,
    /// The configuration file's bytes, as they are in effect.
    pub configuration: Vec<u8>,
    /// Reads the configuration as a successor would, and says what is wrong with it.
    pub check_configuration: Arc<CheckConfiguration>,
    /// The locked pid file.
    pub pid_file: Option<Arc<File>>,
    /// InheritedFds fds of unknown use, left open as a lease may depend on their locks.
    pub unclaimed_fds: Vec<OwnedFd>,
}

/// An image that is to be executed.
#[derive(Debug)]
pub(crate) struct NextProgram {
    pub(crate) target: Target,
    pub(crate) reader: Successor,
}

/// Why it was not executed.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// This process was asked to stop.
    Stop,
    /// An output of the log does not answer.
    Log(String),
    Other(String),
}

/// How far an upgrade is.
#[derive(Debug, Default)]
pub(crate) enum Upgrade {
    /// There is none.
    #[default]
    None,
    /// The target is being asked.
    Asking { target: Target, check: Check, _answered: Registered<OwnedFd>, timer: TimerId },
    /// Calls and jobs in flight come to their end.
    Settling { successor: NextProgram, timer: TimerId },
    /// Everything is at rest.
    Ready(NextProgram),
    /// A job, or the log, does not get on. When it does there is another attempt.
    Postponed,
}

/// What may be read from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Everything,
    /// Of messages that have begun to arrive, and not a byte further.
    Rest,
    Nothing,
}

impl Upgrade {
    /// Whether no new message may be taken up.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Settling { .. } | Self::Ready(_))
    }

    /// Whether the time for this stage is not over.
    pub(crate) fn is_early(&self, now: Instant) -> bool {
        match self {
            Self::Asking { timer, .. } | Self::Settling { timer, .. } => timer.due() > now,
            Self::None | Self::Ready(_) | Self::Postponed => true,
        }
    }

    /// What may be read from clients.
    pub(crate) fn reading(&self) -> Reading {
        match self {
            Self::None | Self::Asking { .. } | Self::Postponed => Reading::Everything,
            Self::Settling { successor, .. } if successor.reader == Successor::Libvirt => {
                Reading::Rest
            }
            Self::Settling { .. } | Self::Ready(_) => Reading::Nothing,
        }
    }
}

impl fmt::Debug for ProcessInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProcessInfo")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

//! Stages of an upgrade.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Contents;
use crate::event::{Registered, TimerId};
use crate::handover::check::{Check, CheckConfiguration};
use crate::handover::{Successor, Target};

/// Facts about this process that an upgrade needs.
pub struct ProcessInfo {
    /// All arguments, the program name first.
    pub arguments: Vec<OsString>,
    /// Path of the running program, in case that the name cannot be found.
    pub executed: Option<PathBuf>,
    /// Path where libvirt's daemons look for the document.
    pub state_file: PathBuf,
    /// Number of times that this process has executed a successor.
    pub generation: u64,
    /// Contents of the configuration files that are in effect.
    pub configuration: Contents,
    /// Reads the configuration as a successor would, and returns what is wrong with it.
    pub check_configuration: Arc<CheckConfiguration>,
    /// The locked pid file.
    pub pid_file: Option<Arc<File>>,
    /// Inherited fds of unknown use, left open as a lease may depend on their locks.
    pub unclaimed_fds: Vec<OwnedFd>,
}

/// The program to execute.
#[derive(Debug)]
pub(crate) struct NextProgram {
    pub(crate) target: Target,
    pub(crate) successor: Successor,
}

/// Reason why it was not executed.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// This process was asked to stop.
    Stop,
    /// A log output hangs.
    Log(String),
    Other(String),
}

/// Stage of an upgrade.
#[derive(Debug, Default)]
pub(crate) enum Upgrade {
    /// No upgrade is in progress.
    #[default]
    None,
    /// The target is being asked.
    Asking { target: Target, check: Check, _answered: Registered<OwnedFd>, timer: TimerId },
    /// Calls and jobs in flight come to their end.
    Settling { next: NextProgram, timer: TimerId },
    /// Everything has settled.
    Ready(NextProgram),
    /// A job or the log is stalled. Another attempt follows when it continues.
    Postponed,
}

/// Extent to which clients are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Everything,
    /// Only the rest of messages that have begun to arrive.
    Rest,
    Nothing,
}

impl Upgrade {
    /// Returns whether new messages must wait.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Settling { .. } | Self::Ready(_))
    }

    /// Returns whether this stage still has time left.
    pub(crate) fn is_early(&self, now: Instant) -> bool {
        match self {
            Self::Asking { timer, .. } | Self::Settling { timer, .. } => timer.due() > now,
            Self::None | Self::Ready(_) | Self::Postponed => true,
        }
    }

    /// Returns the extent to which clients are read.
    pub(crate) fn reading(&self) -> Reading {
        match self {
            Self::None | Self::Asking { .. } | Self::Postponed => Reading::Everything,
            Self::Settling { next, .. } if next.successor == Successor::Libvirt => Reading::Rest,
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

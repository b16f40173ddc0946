//! Errors of log settings.

use std::io;
use std::path::PathBuf;

use crate::rpc;
use crate::rpc::error::{Code, Domain};
use crate::sys::errno::io_text;

/// Reason why the log cannot be set as asked. The text is libvirt's, prefix included; at start its
/// daemons print it behind `libvirt:  error : `.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The setting is invalid.
    #[error("invalid argument: {0}")]
    Invalid(#[from] Invalid),
    /// An output cannot be opened.
    #[error("failed to open {}: {}", path.display(), io_text(source))]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Too many replaced files still have unwritten messages, as their disks hang.
    #[error("{0} replaced log outputs do not answer")]
    Leaving(usize),
    /// The process has a log already.
    #[error("the log is set up already")]
    Installed,
}

/// Fault of an invalid setting, in libvirt's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the variants and fields are what the messages say")]
pub enum Invalid {
    #[error("Failed to set logging priority, argument '{0}' is invalid")]
    Level(String),
    #[error("Malformed format for filter '{0}'")]
    FilterFormat(String),
    #[error("Invalid priority '{level}' for filter '{item}'")]
    FilterLevel { level: String, item: String },
    #[error("Invalid match string '{0}'")]
    FilterMatch(String),
    #[error("Malformed format for log output '{0}'")]
    OutputFormat(String),
    #[error("Invalid log priority '{level}' for log output '{item}'")]
    OutputLevel { level: String, item: String },
    #[error("Invalid log destination '{destination}' for log output '{item}'")]
    OutputDestination { destination: String, item: String },
    #[error(
        "Log output '{item}' does not meet the format requirements for destination type \
         '{destination}'"
    )]
    OutputParts { destination: String, item: String },
    /// Ours; libvirt's daemons set no limit.
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
}

impl Error {
    /// Converts to the error that a client of the admin socket gets.
    #[must_use]
    pub fn to_rpc(&self) -> rpc::Error {
        match self {
            Self::Invalid(invalid) => {
                rpc::Error::new(Code::InvalidArg, Domain::None, invalid.to_string())
            }
            Self::Open { path, source } => {
                let detail = format!("failed to open {}", path.display());
                rpc::Error::system(Domain::None, detail, source.raw_os_error().unwrap_or(0))
            }
            Self::Leaving(_) | Self::Installed => {
                rpc::Error::new(Code::InternalError, Domain::None, self.to_string())
            }
        }
    }
}

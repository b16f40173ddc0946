//! The system's log services.

use std::path::PathBuf;

use super::journal;

/// Addresses of the system's two log services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// The system log, by the classic protocol.
    pub syslog: PathBuf,
    /// The journal, by its native protocol.
    pub journal: PathBuf,
}

impl Default for Services {
    fn default() -> Self {
        Self { syslog: "/dev/log".into(), journal: journal::SOCKET.into() }
    }
}

//! What the tool asks about.

/// Name of the daemon.
pub(crate) const DAEMON: &str = "virtlogd";

/// Items that the daemon lists.
pub(crate) const SUBJECT: &str = "logs";

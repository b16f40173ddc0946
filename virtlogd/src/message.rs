//! Messages of the daemon's own log about a guest's log.

use std::fmt::Display;
use std::path::Path;

/// Logs a message about the log of a guest at a path. In the journal its fields tell which log it is.
macro_rules! log_about {
    ($level:ident, $guest:expr, $path:expr, reason = $reason:expr, $($message:tt)+) => {
        log_about!(@ $level, $guest, $path, (LIBVIRT_REASON = %$reason,), $($message)+)
    };
    (@ $level:ident, $guest:expr, $path:expr, ($($field:tt)*), $($message:tt)+) => {
        tracing::$level!(
            target: "logging.log_handler",
            LIBVIRT_DOMAIN = %$guest.name_field(),
            LIBVIRT_UUID = %$guest.uuid_field(),
            LIBVIRT_LOG_PATH = %$path.display(),
            $($field)*
            $($message)+
        )
    };
    ($level:ident, $guest:expr, $path:expr, $($message:tt)+) => {
        log_about!(@ $level, $guest, $path, (), $($message)+)
    };
}

pub(crate) use log_about;

/// Returns a reason with the path of the log that it is about, which many reasons name themselves.
pub(crate) fn reason_at(reason: &impl Display, path: &Path) -> String {
    let (reason, path) = (reason.to_string(), path.display().to_string());
    if reason.contains(&path) { reason } else { format!("{reason}: {path}") }
}

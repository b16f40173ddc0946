//! Messages of the daemon's own log about a guest's log.

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

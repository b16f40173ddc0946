//! Messages of the daemon's own log about a guest.

/// Logs a message about a guest. In the journal its fields tell which guest it is.
macro_rules! log_about {
    ($level:ident, $guest:expr, $($message:tt)+) => {
        tracing::$level!(
            target: "locking.lock_daemon",
            LIBVIRT_DOMAIN = %$guest.name_field(),
            LIBVIRT_UUID = %$guest.uuid_field(),
            LIBVIRT_PID = $guest.pid,
            $($message)+
        )
    };
}

pub(crate) use log_about;

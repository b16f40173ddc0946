//! Recurring work for the supervisor.

/// Purpose of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Send a watchdog ping.
    Ping,
    /// Check whether the status has changed.
    Status,
    /// Resend what the supervisor could not take.
    Retry,
    /// Offer the fd store what it had no room for.
    Store,
    /// Ask systemd about our unit.
    Unit,
}

//! What the supervisor is to hear, or to be asked.

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Say that the loop has not hung.
    Ping,
    /// Look whether the status has changed.
    Status,
    /// Send what the supervisor could not take.
    Retry,
    /// See whether the fd store takes what it has not.
    Store,
    /// Ask systemd about our unit.
    Unit,
}

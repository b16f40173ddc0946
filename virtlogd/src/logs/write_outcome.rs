//! State of a log after a turn of writing.

use std::time::Duration;

/// Where a turn left a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// Everything is stored.
    Quiet,
    /// Everything is stored, and the pipe is left alone for so long.
    Rest(Duration),
    /// Everything is stored, and the pipe is larger than it will have to be.
    Large,
    /// It was long enough; there is more.
    Again,
    /// The guest writes small pieces as fast as they are taken.
    Racing,
    /// A partial line waits for its end, or for a flush.
    Held,
    /// Writing fails; to be retried.
    Failed,
    /// The guest has gone and everything is stored.
    End,
}

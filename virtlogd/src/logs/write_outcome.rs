//! State of a log after a turn of writing.

use std::time::Duration;

/// State of a log after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// Everything is stored.
    Quiet,
    /// Everything is stored, and the pipe is left alone for this time.
    Rest(Duration),
    /// Everything is stored, and the pipe is larger than it will have to be.
    Large,
    /// The budget is used up; there is more.
    Again,
    /// The guest writes small pieces as fast as they are taken.
    Racing,
    /// A partial line waits for its end, or for a flush.
    Held,
    /// Writing has failed, and is to be tried again.
    Failed,
    /// The guest has gone and everything is stored.
    End,
}

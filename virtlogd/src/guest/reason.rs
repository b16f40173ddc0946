//! Reason why output cannot be written, or is lost.

use std::fmt;

/// Cause of a loss, for those who count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The disk, or the quota of the file's owner, is full.
    Full,
    /// The log cannot be written for another reason.
    #[default]
    Failing,
    /// The file system does not answer.
    Hanging,
    /// The output is over its cap.
    RateCap,
    /// There are no descriptors for a staging pipe.
    Descriptors,
    /// The process before this one has ended in the middle of a write.
    Crash,
    /// The process ends, and the fd store does not have the bytes.
    Stop,
    /// The guest has gone, and its log could still not be written.
    Abandoned,
}

/// A reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) cause: Cause,
    /// Text for the log.
    pub(crate) text: String,
}

impl Cause {
    /// All causes, in their order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Full,
        Self::Failing,
        Self::Hanging,
        Self::RateCap,
        Self::Descriptors,
        Self::Crash,
        Self::Stop,
        Self::Abandoned,
    ];

    /// Returns its name in the answers of our read-only program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Failing => "failing",
            Self::Hanging => "hanging",
            Self::RateCap => "rate-cap",
            Self::Descriptors => "descriptors",
            Self::Crash => "crash",
            Self::Stop => "stop",
            Self::Abandoned => "abandoned",
        }
    }

    /// Returns whether the bytes were taken from the guest's pipe to be dropped.
    pub(crate) fn is_at_pipe(self) -> bool {
        matches!(self, Self::Full | Self::Failing | Self::Hanging | Self::RateCap)
    }
}

impl Reason {
    /// Makes one.
    pub(crate) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

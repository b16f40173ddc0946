//! Why the demonstration failed.

use std::io;

use tests::wire::RpcError;
use thiserror::Error;

/// What went wrong, in one line.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The machine would not do something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// A daemon refused what it should have granted.
    #[error("{what} was refused: {message}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The daemon's words.
        message: String,
    },
    /// Something else came out than was promised.
    #[error("{0}")]
    Promise(String),
    /// A process of the demo was started by somebody else.
    #[error("this process is to be started by the demo itself")]
    Arguments,
}

impl Failure {
    pub(crate) fn system(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), error: error.into() }
    }

    pub(crate) fn refused(what: &'static str, error: RpcError) -> Self {
        Self::Refused { what, message: error.message.unwrap_or_default() }
    }
}

/// Fails with `otherwise` unless the promise is kept.
pub(crate) fn promised(kept: bool, otherwise: impl Into<String>) -> Result<(), Failure> {
    if kept { Ok(()) } else { Err(Failure::Promise(otherwise.into())) }
}

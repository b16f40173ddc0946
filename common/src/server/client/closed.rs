//! Reasons for the end of a connection.

use std::io;

use thiserror::Error;

use crate::rpc::connection::Violation;

/// Reason why a client is closed.
#[derive(Debug, Error)]
pub(in crate::server) enum Closed {
    #[error("end of the stream")]
    End,
    #[error("end of the stream in the middle of a message")]
    EndMidMessage,
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Io(io::Error),
    #[error("the connection was to be closed")]
    Asked,
    #[error("it cannot be handed over to libvirt's daemon")]
    Upgrade,
    #[error("messages of all clients take too much memory, and its {0} bytes are the most")]
    Memory(usize),
}

/// Maps `WouldBlock` to `None`, and errors to an end of the connection.
pub(super) fn attempt<T>(
    mut operation: impl FnMut() -> io::Result<T>,
) -> Result<Option<T>, Closed> {
    loop {
        return match operation() {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Closed::Io(error)),
        };
    }
}

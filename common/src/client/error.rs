//! Reasons why a daemon was not asked or did not answer, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::sys::errno::io_text;

/// Reason why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "`socket` is the socket's path")]
pub enum Error {
    /// There is no connection.
    #[error("unable to connect to {}: {}{}", socket.display(), io_text(source), advice(source))]
    Connect { socket: PathBuf, source: io::Error },
    /// The daemon has no such program: it is libvirt's, or an earlier version.
    #[error("{}: the daemon there knows nothing of this program", socket.display())]
    UnknownProgram { socket: PathBuf },
    /// The daemon has refused the call.
    #[error("{}: refused: {message}", socket.display())]
    Refused {
        socket: PathBuf,
        /// Text of its error.
        message: String,
    },
    /// The connection was lost, or no answer has come in time.
    #[error("{}: {}{}", socket.display(), io_text(source), advice_on_loss(source))]
    Lost { socket: PathBuf, source: io::Error },
    /// The answer is not understood.
    #[error("{}: the answer is not understood: {detail}", socket.display())]
    Damaged {
        socket: PathBuf,
        /// The mistake in it.
        detail: String,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "; is the daemon running? With --no-admin-srv it has no such socket"
        }
        ErrorKind::PermissionDenied => "; only the daemon's own user may connect",
        _ => "",
    }
}

fn advice_on_loss(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            ": no answer in 10 s; the daemon hangs, or has as many clients on this socket as it admits"
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            ": the daemon has closed the connection; it admits its own user only"
        }
        _ => "",
    }
}

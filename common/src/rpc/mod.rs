//! libvirt's RPC without I/O: bytes and fds in, messages out, and back.
//!
//! - [`header`]: the 28 bytes at the start of every message, and the limits of the framing.
//! - [`connection`]: the state of one stream. It tells what to read and what to send; the owner of
//!   the socket does both.
//! - [`program`]: dispatch of a complete message: a call for a handler, an immediate answer (to an
//!   unknown procedure, a keepalive ping), or a message to drop.
//! - [`error`]: the error object.
//!
//! Invariants: nothing here opens, reads or waits; this folder builds without mio and nix. A branch
//! that can only be reached with a socket in hand belongs into [`crate::server`].

pub mod connection;
pub mod error;
pub mod header;
pub mod program;

pub use connection::Connection;
pub use error::Error;
pub use program::{Call, Program, Reply};

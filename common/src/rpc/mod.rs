//! libvirt's RPC without its I/O: bytes and fds in, messages out, and back.
//!
//! - [`header`]: the 28 bytes that every message starts with, and the limits of the framing.
//! - [`connection`]: the state of one stream. It says what it wants to read and what it has to
//!   send; whoever owns the socket does both.
//! - [`program`]: what a complete message is: a call for a handler, something to answer at once
//!   (an unknown procedure, a keepalive ping), or something to drop.
//! - [`error`]: the error object.
//!
//! Invariants: nothing here opens, reads or waits; this folder builds without mio and nix. A
//! branch that can only be reached with a socket in hand belongs into [`crate::server`].

pub mod connection;
pub mod error;
pub mod header;
pub mod program;

pub use connection::Connection;
pub use error::Error;
pub use program::{Call, Program, Reply};

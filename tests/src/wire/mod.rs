//! A client of libvirt's RPC, written for tests: it can also say wrong things.

mod admin;
mod connection;
mod error;
mod fd;
mod lock;
mod log;
mod xdr;

pub use admin::{Admin, client_ids, list_clients};
pub use connection::{Answer, Connection, Frame, Header, Reply};
pub use error::RpcError;
pub(crate) use fd::send as send_fds;
pub(crate) use fd::{bytes_in_pipe, is_same_description, receive_now};
pub use lock::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, LockClient, Owner};
pub use log::{LogClient, OPEN_TRUNCATE, OpenLog, Position};
pub use xdr::{Reader, Writer};

/// Program number of the log manager (libvirt's value, on the wire).
pub const LOG_PROGRAM: u32 = 0x8753_9319;
/// Program number of the lock manager (libvirt's value, on the wire).
pub const LOCK_PROGRAM: u32 = 0x0ea7_beef;
/// Program number of the administration interface (libvirt's value, on the wire).
pub const ADMIN_PROGRAM: u32 = 0x0690_0690;
/// Program number of keepalive, "keep" in ASCII (libvirt's value, on the wire).
pub const KEEPALIVE_PROGRAM: u32 = 0x6b65_6570;

/// Message types (libvirt's values, on the wire).
pub mod kind {
    /// A request.
    pub const CALL: u32 = 0;
    /// The answer to a request.
    pub const REPLY: u32 = 1;
    /// A message nobody asked for; keepalive uses it.
    pub const MESSAGE: u32 = 2;
    /// A request followed by file descriptors.
    pub const CALL_WITH_FDS: u32 = 4;
    /// An answer followed by file descriptors.
    pub const REPLY_WITH_FDS: u32 = 5;
}

/// Message statuses (libvirt's values, on the wire).
pub mod status {
    /// The call succeeded.
    pub const OK: u32 = 0;
    /// The payload is an error object.
    pub const ERROR: u32 = 1;
}

/// Bytes of a message before its payload: the length word and six header words.
pub const HEADER_BYTES: usize = 28;

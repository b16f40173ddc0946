//! The admin program, by which `virt-admin` queries and changes a running daemon.
//!
//! No I/O: [`dispatch()`] decodes a call, makes libvirt's checks in libvirt's order and passes the
//! rest to a [`Target`], which the server layer implements. The two daemons differ only in the name
//! of the main server.
//!
//! compat: servers are listed in one order, the main one first; libvirt 9.0.0's order is that of
//! its hash table and changes from start to start.

mod dispatch;
mod encode;
mod lookup;
mod params;
#[cfg(test)]
mod replay;

pub use dispatch::{Outcome, dispatch};

use crate::rpc;

/// Program of an admin socket. libvirt's numbers, on the wire.
pub const PROGRAM: rpc::Program =
    rpc::Program { number: 0x0690_0690, version: 1, last_procedure: 19 };

/// Name of the server on the admin socket, libvirt's.
pub const ADMIN_SERVER_NAME: &str = "admin";

/// The libvirt release that we are compatible with and report to clients.
pub const LIBVIRT_VERSION: &str = "9.0.0";

/// [`LIBVIRT_VERSION`] as on the wire: major * 1,000,000 + minor * 1,000 + micro.
pub const LIBVIRT_VERSION_NUMBER: u64 = 9_000_000;

/// A server of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// The daemon's main server, named like the daemon.
    Main,
    /// The server of this program.
    Admin,
}

/// A connected client of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Number within its server; never reused.
    pub id: u64,
    /// Time of connection, in seconds since the epoch.
    pub connected_at_s: i64,
}

/// Identity of a client, as recorded by the kernel when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// User name; `None` where the user database has none.
    pub user_name: Option<String>,
    /// Group id.
    pub gid: u32,
    /// Group name; `None` where the group database has none.
    pub group_name: Option<String>,
    /// Process id.
    pub pid: i32,
    /// Security label; `None` without `SELinux`.
    pub selinux_label: Option<String>,
}

/// Limits on the clients of a server. At a limit no further connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Clients at the same time.
    pub clients_max: u32,
    /// Clients that have not authenticated yet. A Unix socket never has any; the number is stored
    /// and reported only.
    pub unauthenticated_max: u32,
}

/// The administered daemon.
pub trait Target {
    /// Returns the name of [`Server::Main`].
    fn main_server_name(&self) -> &str;

    /// Returns the clients of a server in the order of their connections.
    fn clients(&self, server: Server) -> Vec<Client>;

    /// Returns the identity of a client; `None` for an unknown client. Only called for an answer
    /// that shows it, so names may be looked up here.
    fn identity(&self, server: Server, client_id: u64) -> Option<Identity>;

    /// Closes a client's connection at once; unread answers are lost. It may be the calling
    /// connection, which then gets no answer.
    fn close_client(&mut self, server: Server, client_id: u64);

    /// Returns the limits of a server.
    fn limits(&self, server: Server) -> Limits;

    /// Sets the limits of a server; connected clients stay.
    fn set_limits(&mut self, server: Server, limits: Limits);

    /// Returns the number of priority workers that was set last; 0 at first.
    fn priority_workers(&self, server: Server) -> u32;

    /// Sets the number of priority workers. There are no workers: it is stored and reported only.
    fn set_priority_workers(&mut self, server: Server, count: u32);

    /// Returns the outputs of the daemon's own log, as items of a setting: `3:stderr`,
    /// `1:file:/absolute/path`.
    fn log_outputs(&self) -> Vec<String>;

    /// Replaces the outputs by those of a setting; an empty one restores the default.
    ///
    /// # Errors
    /// An invalid setting; the outputs are unchanged.
    fn set_log_outputs(&mut self, setting: &str) -> Result<(), rpc::Error>;

    /// Returns the filters of the daemon's own log, as items of a setting with the pattern's stars:
    /// `1:*rpc*`.
    fn log_filters(&self) -> Vec<String>;

    /// Replaces the filters by those of a setting; an empty one leaves none.
    ///
    /// # Errors
    /// An invalid setting; the filters are unchanged.
    fn set_log_filters(&mut self, setting: &str) -> Result<(), rpc::Error>;

    /// Sets the idle timeout in seconds; 0 for never. Any number is allowed.
    ///
    /// compat: a large number means a long time. libvirt 9.0.0 counts milliseconds in 32 bits and
    /// exits after 0.7 s when it is told 4,294,968 s.
    fn set_idle_timeout_s(&mut self, timeout_s: u32);
}

#[cfg(test)]
mod tests;

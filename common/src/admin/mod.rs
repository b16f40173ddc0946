//! The admin program: what `virt-admin` asks of a running daemon, and may change.
//!
//! No I/O: [`dispatch()`] decodes a call, makes libvirt's checks in libvirt's order and hands what
//! is left to a [`Target`], which the server layer implements. Nothing here differs between the
//! two daemons but the name of the main server.
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

/// The program that an admin socket serves. libvirt's numbers, on the wire.
pub const PROGRAM: rpc::Program =
    rpc::Program { number: 0x0690_0690, version: 1, last_procedure: 19 };

/// Name of the server that answers on the admin socket, libvirt's.
pub const ADMIN_SERVER_NAME: &str = "admin";

/// The libvirt release that we are compatible with and that clients are told.
pub const LIBVIRT_VERSION: &str = "9.0.0";

/// [`LIBVIRT_VERSION`] as on the wire: major * 1,000,000 + minor * 1,000 + micro.
pub const LIBVIRT_VERSION_NUMBER: u64 = 9_000_000;

/// One of a daemon's two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// The one that the daemon is there for, named as the daemon.
    Main,
    /// The one that speaks this program.
    Admin,
}

/// A connected client of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its number within its server; never used again for another.
    pub id: u64,
    /// When it connected, in seconds since the epoch.
    pub connected_at_s: i64,
}

/// Who a client is, as the kernel noted when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Its name; `None` where the user database has none.
    pub user_name: Option<String>,
    /// Group.
    pub gid: u32,
    /// Its name; `None` where the group database has none.
    pub group_name: Option<String>,
    /// Process.
    pub pid: i32,
    /// Security label; `None` without `SELinux`.
    pub selinux_label: Option<String>,
}

/// How many clients a server takes. It waits with accepting further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Clients at the same time.
    pub clients_max: u32,
    /// Clients that have not authenticated yet, of which there are never any on a Unix socket: a
    /// number to be kept and reported.
    pub unauthenticated_max: u32,
}

/// The daemon, as far as it can be administered.
pub trait Target {
    /// Name of [`Server::Main`].
    fn main_server_name(&self) -> &str;

    /// The clients of a server in the order in which they connected.
    fn clients(&self, server: Server) -> Vec<Client>;

    /// Who a client is; `None` when there is no such client. Only called for an answer that shows
    /// it, so this is the place to look names up.
    fn identity(&self, server: Server, client_id: u64) -> Option<Identity>;

    /// Closes a client's connection at once, as if it had hung up; what it has not read is lost.
    /// It may be the connection that asks, which then gets no answer.
    fn close_client(&mut self, server: Server, client_id: u64);

    /// How many clients a server takes.
    fn limits(&self, server: Server) -> Limits;

    /// Changes how many clients a server takes, from now on; those that are there stay.
    fn set_limits(&mut self, server: Server, limits: Limits);

    /// The number of priority workers last set; 0 at first.
    fn priority_workers(&self, server: Server) -> u32;

    /// Stores a number of priority workers. There are no workers: it is kept and reported.
    fn set_priority_workers(&mut self, server: Server, count: u32);

    /// The outputs of the daemon's own log, as the setting that would make them: one item each,
    /// `3:stderr`, `1:file:/absolute/path`.
    fn log_outputs(&self) -> Vec<String>;

    /// Replaces the outputs by those of a setting; an empty one restores the default.
    ///
    /// # Errors
    /// What is wrong with the setting; the outputs stay as they were.
    fn set_log_outputs(&mut self, setting: &str) -> Result<(), rpc::Error>;

    /// The filters of the daemon's own log, one item each, the pattern with its stars:
    /// `1:*rpc*`.
    fn log_filters(&self) -> Vec<String>;

    /// Replaces the filters by those of a setting; an empty one leaves none.
    ///
    /// # Errors
    /// What is wrong with the setting; the filters stay as they were.
    fn set_log_filters(&mut self, setting: &str) -> Result<(), rpc::Error>;

    /// Sets after how many idle seconds the daemon exits; 0 for never. Any number is allowed.
    ///
    /// compat: a large one has to mean a long time. libvirt 9.0.0 counts milliseconds in 32 bits
    /// and stops after 0.7 s when it is told 4,294,968 s.
    fn set_idle_timeout_s(&mut self, timeout_s: u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_same_in_both_forms() {
        let number = LIBVIRT_VERSION
            .split('.')
            .fold(0, |sum, part| sum * 1000 + part.parse::<u64>().unwrap());
        assert_eq!(number, LIBVIRT_VERSION_NUMBER);
    }
}

//! Client ids.

use crate::admin::Server;
use crate::sys::socket::Peer;

/// A client, as a handler sees it.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Id of the client, unique while the daemon runs.
    pub client: ClientId,
    /// Credentials of the client's process.
    pub peer: Peer,
}

/// The side that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    ByClient,
    ByUs,
}

/// Id of a client. It is never reused while the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    pub(super) server: Server,
    /// Starts at 1, like libvirt's.
    pub(super) number: u64,
}

impl ClientId {
    /// Returns the id of the main server's client with this number.
    #[must_use]
    pub fn of_main_server(number: u64) -> Self {
        Self { server: Server::Main, number }
    }
}

impl std::fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = match self.server {
            Server::Main => "client",
            Server::Admin => "admin client",
        };
        write!(formatter, "{server} {}", self.number)
    }
}

//! Clients by their numbers.

use crate::admin::Server;
use crate::sys::socket::Peer;

/// A client as a handler sees it.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Names the client for as long as the daemon runs.
    pub client: ClientId,
    /// Who it is.
    pub peer: Peer,
}

/// By whom a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    ByClient,
    ByUs,
}

/// Names a client for as long as the daemon runs; never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    pub(super) server: Server,
    /// From 1, libvirt's first.
    pub(super) number: u64,
}

impl ClientId {
    /// The main server's client of this number.
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

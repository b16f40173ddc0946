//! Tokens of the loop's events.

use super::caller::ClientId;
use super::duty::Duty;
use crate::admin::Server;
use crate::event;

/// Bits of a token for its kind; the rest is a number that is never reused.
const KIND_BITS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    /// A listener, by its index in its server.
    Listener(Server, u64),
    /// Timer: accepting resumes after a pause.
    Accept(Server),
    Client(ClientId),
    /// Timer: idle timeout.
    Idle,
    /// The target of an upgrade has answered. Timer: that, or settling, takes too long.
    Upgrade,
    /// Timer: recurring work for the supervisor.
    Supervisor(Duty),
    /// The supervisor has answered a proof request, or the fd store has lost something.
    Store,
    /// A job has ended on another thread.
    Jobs,
    /// Timer: the wait for jobs is over.
    Deadline,
    /// An fd that the daemon watches.
    Daemon(u64),
    /// A timer of the daemon's.
    DaemonTimer(u64),
}

impl event::Token for Token {
    fn into_bits(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Idle => (0, 1),
            Self::Upgrade => (0, 2),
            Self::Jobs => (0, 3),
            Self::Deadline => (0, 4),
            Self::Store => (0, 5),
            Self::Accept(server) => (1, server_bit(server)),
            Self::Listener(server, index) => (2, index << 1 | server_bit(server)),
            Self::Client(client) => (3, client.number << 1 | server_bit(client.server)),
            Self::Daemon(source) => (4, source),
            Self::DaemonTimer(source) => (5, source),
            Self::Supervisor(Duty::Ping) => (6, 0),
            Self::Supervisor(Duty::Status) => (6, 1),
            Self::Supervisor(Duty::Retry) => (6, 2),
            Self::Supervisor(Duty::Store) => (6, 3),
            Self::Supervisor(Duty::Unit) => (6, 4),
        };
        number << KIND_BITS | kind
    }

    fn from_bits(bits: u64) -> Self {
        let number = bits >> KIND_BITS;
        let server = if number & 1 == 0 { Server::Main } else { Server::Admin };
        match (bits & ((1 << KIND_BITS) - 1), number) {
            (0, 0) => Self::Signals,
            (0, 2) => Self::Upgrade,
            (0, 3) => Self::Jobs,
            (0, 4) => Self::Deadline,
            (0, 5) => Self::Store,
            (1, _) => Self::Accept(server),
            (2, _) => Self::Listener(server, number >> 1),
            (3, _) => Self::Client(ClientId { server, number: number >> 1 }),
            (4, _) => Self::Daemon(number),
            (5, _) => Self::DaemonTimer(number),
            (6, 0) => Self::Supervisor(Duty::Ping),
            (6, 1) => Self::Supervisor(Duty::Status),
            (6, 3) => Self::Supervisor(Duty::Store),
            (6, 4) => Self::Supervisor(Duty::Unit),
            (6, _) => Self::Supervisor(Duty::Retry),
            _ => Self::Idle,
        }
    }
}

fn server_bit(server: Server) -> u64 {
    match server {
        Server::Main => 0,
        Server::Admin => 1,
    }
}

#[cfg(test)]
mod tests;

//! Clients as the daemon addresses and answers them.

use std::io;
use std::os::fd::OwnedFd;

use super::caller::ClientId;
use super::core::Core;
use crate::rpc::{self, Reply};

impl<O> Core<O> {
    /// Returns a pidfd of the process that a client connected from.
    ///
    /// # Errors
    /// As `getsockopt(2)`; `NotFound` when the client has disconnected.
    pub fn peer_pidfd(&mut self, client: ClientId) -> io::Result<OwnedFd> {
        match self.servers.client(client) {
            Some(client) => client.peer_pidfd(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Returns whether a client has closed its connection, even if unread input precedes the end.
    pub fn has_hung_up(&mut self, client: ClientId) -> bool {
        self.servers.client(client).is_none_or(|client| client.has_hung_up())
    }

    /// Answers a deferred call, unless the client has disconnected.
    ///
    /// An answer is held back until the fd store has what it promises.
    pub fn answer(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        if self.must_wait_for_supervisor() {
            return self.hold_back(client, result);
        }
        self.answer_now(client, result);
    }

    pub(super) fn answer_now(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        if let Some(client) = self.servers.client(client) {
            client.answer(result);
            self.answered.push_back(client.id());
        }
    }
}

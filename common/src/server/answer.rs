//! Clients, as a daemon asks for them and answers them.

use std::io;
use std::os::fd::OwnedFd;

use super::caller::ClientId;
use super::core::Core;
use crate::rpc::{self, Reply};

impl<O> Core<O> {
    /// A pidfd of the process that a client connected from.
    ///
    /// # Errors
    /// As `getsockopt(2)`; `NotFound` when the client has gone.
    pub fn peer_pidfd(&mut self, client: ClientId) -> io::Result<OwnedFd> {
        match self.servers.client(client) {
            Some(client) => client.peer_pidfd(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a client has ended its connection, also when it has sent something before.
    pub fn has_hung_up(&mut self, client: ClientId) -> bool {
        self.servers.client(client).is_none_or(|client| client.has_hung_up())
    }

    /// Answers a call that was to be answered later. A client that has gone needs none.
    ///
    /// What is not in the fd store yet is not promised to anybody: the answer waits for that.
    pub fn answer(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        if self.must_hold_back() {
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

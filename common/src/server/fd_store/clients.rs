//! Clients in the store, and answers held back for the supervisor.

use std::os::fd::AsFd;

use crate::fd_store::names::Kind;
use crate::fd_store::reply_record::ReplyRecord;
use crate::handover::document::{self, Change};
use crate::rpc::{self, Reply};
use crate::server::caller::ClientId;
use crate::server::client::Client;
use crate::server::core::Core;

impl<O> Core<O> {
    /// Stores a client's connection, so that a successor notices its end, or updates its record.
    /// Returns `false` when it does not fit.
    pub fn store_client(&mut self, id: ClientId, record: document::Client) -> bool {
        let server = self.servers.get_mut(id.server);
        // Out of the map, as a copy of its socket would need a descriptor.
        let Some(mut client) = server.clients.remove(&id.number) else { return true };
        let record = document::Client {
            id: Some(id.number),
            conn_time: Some(client.connected_at_s()),
            ..record
        };
        let is_stored_now = self.store_connection(&mut client, record);
        if !is_stored_now {
            client.clear_key();
        }
        self.servers.get_mut(id.server).clients.insert(id.number, client);
        is_stored_now
    }

    fn store_connection(&mut self, client: &mut Client, record: document::Client) -> bool {
        let change = Change { client: Some(record), ..Change::default() };
        let Some(calls) = self.store.calls.clone() else { return false };
        match client.key() {
            Some(key) => self.store_as(key, Kind::Client, &[client.socket().as_fd()], change),
            None if !self.check_room_for(1) => false,
            None => {
                let key = self.store.keys.take();
                client.set_key(key, Some(ReplyRecord::new(calls, key)));
                self.send_new(key, Kind::Client, &[client.socket().as_fd()], change)
            }
        }
    }

    /// Returns whether a client's connection is stored.
    #[must_use]
    pub fn stores_client(&mut self, id: ClientId) -> bool {
        self.servers.client(id).is_some_and(|client| client.key().is_some())
    }

    /// Returns whether answers must wait for the supervisor.
    pub(in crate::server) fn must_wait_for_supervisor(&mut self) -> bool {
        self.has_store() && self.store.answer_gate.must_wait(&self.supervision.notify)
    }

    /// Holds an answer back until the supervisor has received everything.
    pub(in crate::server) fn hold_back(
        &mut self,
        client: ClientId,
        result: Result<Reply, rpc::Error>,
    ) {
        self.store.answer_gate.push((client, result), &self.supervision.notify);
    }

    /// Returns the next answer that no longer has to wait.
    pub(in crate::server) fn next_held_back(
        &mut self,
    ) -> Option<(ClientId, Result<Reply, rpc::Error>)> {
        self.store.answer_gate.next(&self.supervision.notify)
    }

    /// Releases all answers that were held back.
    pub(in crate::server) fn release_held_back(&mut self) {
        while let Some((client, result)) = self.store.answer_gate.take() {
            self.answer_now(client, result);
        }
    }
}

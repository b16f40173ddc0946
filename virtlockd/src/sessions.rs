//! Connections that have made a call, and the answers to their calls.

use std::collections::{HashMap, VecDeque};

use common::rpc::{self, Reply};
use common::server::{Caller, ClientId};

use crate::counts::Refusals;
use crate::error::lock::LockError;
use crate::ids::OwnerId;
use crate::outcome::Core;
use crate::protocol::Guest;
use crate::session::{Disconnect, Session};

/// Connections that have made a call.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: HashMap<ClientId, Session>,
    /// Closed connections whose last call has been answered since.
    ended: VecDeque<(ClientId, Disconnect)>,
    pub(crate) refusals: Refusals,
}

impl Sessions {
    pub(crate) fn get(&self, client: ClientId) -> Option<&Session> {
        self.sessions.get(&client)
    }

    pub(crate) fn get_mut(&mut self, client: ClientId) -> Option<&mut Session> {
        self.sessions.get_mut(&client)
    }

    pub(crate) fn get_or_insert(&mut self, caller: Caller) -> &mut Session {
        self.sessions.entry(caller.client).or_insert_with(|| Session::new(caller))
    }

    pub(crate) fn insert(&mut self, session: Session) {
        self.sessions.insert(session.caller.client, session);
    }

    pub(crate) fn remove(&mut self, client: ClientId) -> Option<Session> {
        self.sessions.remove(&client)
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.sessions.keys().copied()
    }

    /// Returns the caller of an owner's own connection.
    pub(crate) fn own_caller_of(&self, owner: OwnerId) -> Option<Caller> {
        let is_its = |session: &&Session| {
            session.is_own && session.registration.as_ref().is_some_and(|it| it.owner == owner)
        };
        self.sessions.values().find(is_its).map(|session| session.caller)
    }

    /// Marks a connection as waiting for the result of its call.
    pub(crate) fn set_call_in_flight(&mut self, client: ClientId) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.has_call_in_flight = true;
        }
    }

    /// Defers the end of a connection to the end of its call in flight. Returns whether there is one.
    pub(crate) fn defer_end(&mut self, client: ClientId, disconnect: Disconnect) -> bool {
        match self.sessions.get_mut(&client) {
            Some(session) if session.has_call_in_flight => {
                session.disconnect = Some(disconnect);
                true
            }
            _ => false,
        }
    }

    /// Answers the call in flight of a connection.
    pub(crate) fn answer(
        &mut self,
        core: &mut Core,
        client: ClientId,
        result: Result<(), LockError>,
    ) {
        let reply = self.reply(client, result);
        core.answer(client, reply);
        if let Some(session) = self.sessions.get_mut(&client) {
            session.has_call_in_flight = false;
            self.ended.extend(session.disconnect.map(|disconnect| (client, disconnect)));
        }
    }

    /// Returns the next connection whose deferred end is to take effect.
    pub(crate) fn next_ended(&mut self) -> Option<(ClientId, Disconnect)> {
        self.ended.pop_front()
    }

    /// Returns the reply for a result. Logs and counts a refusal.
    pub(crate) fn reply(
        &mut self,
        client: ClientId,
        result: Result<(), LockError>,
    ) -> Result<Reply, rpc::Error> {
        let Err(refusal) = result else {
            return Ok(Reply::default());
        };
        self.refusals.add(&refusal);
        let error = rpc::Error::from(&refusal);
        let session = self.get(client);
        let requester = session.map(Session::requester).unwrap_or_default();
        let guest = session.and_then(Session::guest);
        let message = error.message();
        match refusal.holders() {
            Some(holders) => tracing::warn!(
                target: "locking.lock_daemon",
                LIBVIRT_DOMAIN = guest.map(Guest::name_field).as_deref(),
                LIBVIRT_UUID = guest.map(Guest::uuid_field),
                LIBVIRT_HOLDER = %holders,
                LIBVIRT_REASON = message,
                "Refused to {requester}: {message}: {holders}"
            ),
            None => tracing::info!(
                target: "locking.lock_daemon", "Refused to {requester}: {message}"
            ),
        }
        Err(error)
    }
}

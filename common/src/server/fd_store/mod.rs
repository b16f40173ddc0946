//! Content of the supervisor's fd store, for recovery after a crash.
//!
//! - An item's record is in the [journal](crate::fd_store::journal) before its fds are sent, and is
//!   removed before they are. A record without fds is ignored; meaningful fds always have a record.
//! - An item counts as stored only when the supervisor has [proved](crate::fd_store::proof) it. An
//!   unproved item counts as lost at a stop, and a successor sends it again.
//! - Items that do not fit are offered again when there is room.
//! - A few memfds, the [essentials], go in first and stay. Nothing else in the store has a meaning
//!   without them.

mod essentials;
mod state;
mod upkeep;

use std::os::fd::{AsFd, BorrowedFd};

use super::caller::ClientId;
use super::client::Client;
use super::core::Core;
use crate::fd_store::names::Kind;
use crate::fd_store::reply_record::ReplyRecord;
use crate::handover::document::{self, Change};
use crate::rpc::{self, Reply};
use crate::systemd::StoreError;
pub(crate) use state::StoreState;
use state::{DRAIN_PERIOD, SPARE_FDS};

impl<O> Core<O> {
    /// Returns whether there is a store, so that leases and logs outlive this process.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store.fds_max > 0
    }

    /// Returns whether the supervisor has received everything that was stored.
    #[must_use]
    pub fn is_all_sent(&self) -> bool {
        self.supervision.notify.waiting() == 0
    }

    /// Returns whether an item is proved to be in the store.
    #[must_use]
    pub fn is_stored(&self, kind: Kind, key: u64) -> bool {
        let name = kind.name(key);
        self.has_store() && self.supervision.notify.has(&name) && self.store.proof.is_proved(&name)
    }

    /// Stores fds with the record `change` under a new key; `None` when they do not fit.
    pub fn store(&mut self, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) -> Option<u64> {
        if !self.check_room_for(fds.len()) {
            return None;
        }
        let key = self.store.keys.take();
        self.send_new(key, kind, fds, change).then_some(key)
    }

    /// Stores an item under its existing key: records it, and sends its fds if the store may lack
    /// them. If they do not fit, frees the key and returns `false`.
    pub fn store_as(
        &mut self,
        key: u64,
        kind: Kind,
        fds: &[BorrowedFd<'_>],
        change: Change,
    ) -> bool {
        let name = kind.name(key);
        let is_there = self.supervision.notify.has(&name);
        if is_there && (self.store.claimed.is_none() || self.store.proof.is_proved(&name)) {
            self.store.claim(&name);
            if kind != Kind::Pipe {
                self.note(&Change { key: Some(key), ..change });
            }
            return true;
        }
        self.supervision.notify.forget(&name);
        if is_there || self.check_room_for(fds.len()) {
            self.send_again(key, kind, fds, change);
            return true;
        }
        self.remove_stored(kind, key);
        // The store may still have it, and would not take it under a second name.
        self.store.removals_first = true;
        false
    }

    /// Requests that unstored items are offered once the supervisor has taken what it was sent.
    pub fn note_unstored(&mut self) {
        self.store.has_unstored = true;
    }

    fn check_room_for(&mut self, fds: usize) -> bool {
        if !self.has_store() {
            return false;
        }
        let (notify, store) = (&self.supervision.notify, &mut self.store);
        let is_room = !store.removals_first
            && notify.stored_fds() + store.proof.leaving_fds() + fds + SPARE_FDS <= store.fds_max
            && notify.has_room(fds)
            && store.offers_max.is_none_or(|most| store.proof.sent_count() < most);
        store.has_unstored |= !is_room;
        if !is_room && store.offers_max.is_none() && !store.removals_first {
            self.complain("it is full");
        }
        is_room
    }

    fn send_new(&mut self, key: u64, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) -> bool {
        let name = kind.name(key);
        if kind != Kind::Pipe {
            self.note(&Change { key: Some(key), ..change });
        }
        if let Err(error) = self.send_item(&name, fds) {
            self.note(&Change { key: Some(key), ..Change::default() });
            self.store.keys.give_back(key);
            self.could_not_send(&error);
            return false;
        }
        self.store.claim(&name);
        self.store.proof.sent(&name);
        true
    }

    /// Sends an item under the name that the store may already have. If there are no descriptors to
    /// send it, the item keeps its name and is sent later.
    fn send_again(&mut self, key: u64, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) {
        let name = kind.name(key);
        if kind != Kind::Pipe {
            self.note(&Change { key: Some(key), ..change });
        }
        self.store.claim(&name);
        match self.send_item(&name, fds) {
            Ok(()) => self.store.proof.sent(&name),
            Err(error) => {
                self.store.is_to_send_again = true;
                self.could_not_send(&error);
            }
        }
    }

    /// Sends an item, at a limited pace except while everything is stored anew.
    fn send_item(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<(), StoreError> {
        match self.store.claimed {
            Some(_) => self.supervision.notify.store(name, fds),
            None => self.supervision.notify.store_paced(name, fds),
        }
    }

    /// Schedules another offer, since there may be no answer to wait for. Called when an item could
    /// not be sent for lack of descriptors.
    fn could_not_send(&mut self, error: &StoreError) {
        self.store.has_unstored = true;
        self.supervision.schedule_store_offer(&mut self.reactor);
        self.complain(&error.to_string());
    }

    /// Records a changed item in the journal.
    pub fn note(&mut self, change: &Change) {
        match self.store.journal.as_mut().map(|journal| journal.note(change)) {
            Some(Ok(is_stale)) => self.store.is_stale |= is_stale,
            Some(Err(error)) => {
                self.complain(&error.to_string());
                self.store.is_incomplete = true;
            }
            None => {}
        }
    }

    /// Removes an item. Its locks must be released before.
    pub fn remove_stored(&mut self, kind: Kind, key: u64) {
        self.note(&Change { key: Some(key), ..Change::default() });
        self.store.proof.remove(&mut self.supervision.notify, &kind.name(key));
        self.store.keys.give_back(key);
    }

    /// Requests [`Daemon::has_left_store`](super::Daemon::has_left_store) once the supervisor was
    /// told to [remove](Self::remove_stored) the item: until then it may close the item's last fd.
    /// Returns `false` if the store does not have it.
    pub fn watch_removal(&mut self, kind: Kind, key: u64) -> bool {
        let name = kind.name(key);
        let is_there = self.has_store() && self.store.proof.removed().any(|it| it == name);
        if is_there {
            self.store.leaving.insert(key);
            self.store.is_to_ask_for_leaving = true;
        }
        is_there
    }

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

    /// Waits, within a bound, until the supervisor has received everything. Returns whether it has.
    pub(super) fn drain_store(&mut self) -> bool {
        !self.has_store() || self.supervision.notify.drain(DRAIN_PERIOD)
    }

    /// Returns whether answers must wait for the supervisor.
    pub(super) fn must_wait_for_supervisor(&mut self) -> bool {
        self.has_store() && self.store.answer_gate.must_wait(&self.supervision.notify)
    }

    /// Holds an answer back until the supervisor has received everything.
    pub(super) fn hold_back(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        self.store.answer_gate.push((client, result), &self.supervision.notify);
    }

    /// Returns the next answer that no longer has to wait.
    pub(super) fn next_held_back(&mut self) -> Option<(ClientId, Result<Reply, rpc::Error>)> {
        self.store.answer_gate.next(&self.supervision.notify)
    }

    /// Releases all answers that were held back.
    pub(super) fn release_held_back(&mut self) {
        while let Some((client, result)) = self.store.answer_gate.take() {
            self.answer_now(client, result);
        }
    }

    /// Logs once why something is not in the store.
    fn complain(&mut self, reason: &str) {
        if self.store.complaint != reason {
            reason.clone_into(&mut self.store.complaint);
            tracing::error!(
                target: "util.systemd",
                "Not everything is in the fd store, and would be lost in a crash: {reason}"
            );
        }
    }

    /// Returns the names that the store may have, one for each fd, for a successor.
    pub(super) fn stored_names(&self) -> Vec<String> {
        let stored = self.supervision.notify.stored();
        let names = stored.into_iter().flat_map(|(name, count)| std::iter::repeat_n(name, count));
        names.chain(self.store.proof.removed().map(str::to_owned)).collect()
    }

    /// Returns the names that were removed and not stored again.
    pub(super) fn removed_names(&self) -> Vec<String> {
        let notify = &self.supervision.notify;
        let removed = self.store.proof.removed().filter(|name| !notify.has(name));
        removed.map(str::to_owned).collect()
    }

    /// Returns the names that are not proved to be in the store.
    pub(super) fn unproved_names(&self) -> Vec<String> {
        self.store.proof.unproved()
    }

    /// Repeats a predecessor's removals. The fds may still be stored, and systemd does not store an
    /// fd under a second name.
    pub fn remove_again(&mut self, names: &[String]) {
        self.store.proof.remove_again(&mut self.supervision.notify, names);
    }

    /// Adopts the names that the store may have, as told by a predecessor or the supervisor.
    /// `unproved` are not known to be there.
    pub fn adopt_store(&mut self, names: &[String], unproved: &[String]) {
        names.iter().for_each(|name| self.supervision.notify.adopt_stored(name));
        self.store.proof.doubt(unproved);
    }
}

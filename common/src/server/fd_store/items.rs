//! Items of the store: storing, recording and removing them.

use std::os::fd::BorrowedFd;

use super::state::SPARE_FDS;
use crate::fd_store::names::Kind;
use crate::handover::document::Change;
use crate::server::core::Core;
use crate::systemd::StoreError;

impl<O> Core<O> {
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

    pub(super) fn check_room_for(&mut self, fds: usize) -> bool {
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
            store.refusals += 1;
            self.complain("it is full");
        }
        is_room
    }

    pub(super) fn send_new(
        &mut self,
        key: u64,
        kind: Kind,
        fds: &[BorrowedFd<'_>],
        change: Change,
    ) -> bool {
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
    pub(super) fn send_again(
        &mut self,
        key: u64,
        kind: Kind,
        fds: &[BorrowedFd<'_>],
        change: Change,
    ) {
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
        self.send_first_sentinel();
        match self.store.claimed {
            Some(_) => self.supervision.notify.store(name, fds),
            None => self.supervision.notify.store_paced(name, fds),
        }
    }

    /// Schedules another offer, since there may be no answer to wait for. Called when an item could
    /// not be sent for lack of descriptors.
    pub(super) fn could_not_send(&mut self, error: &StoreError) {
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

    /// Requests [`Daemon::has_left_store`](crate::server::Daemon::has_left_store) once the
    /// supervisor was told to [remove](Self::remove_stored) the item: until then it may close the
    /// item's last fd. Returns `false` if the store does not have it.
    pub fn watch_removal(&mut self, kind: Kind, key: u64) -> bool {
        let name = kind.name(key);
        let is_there = self.has_store() && self.store.proof.removed().any(|it| it == name);
        if is_there {
            self.store.leaving.insert(key);
            self.store.is_to_ask_for_leaving = true;
        }
        is_there
    }
}

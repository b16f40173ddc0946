//! The supervisor's fd store: what is in it, so that a process that comes after a crash finds it.
//!
//! - An item's record is in the [journal](crate::handover::journal) before its fds are sent, and
//!   goes before they do. So there may be a record without fds, which means nothing, and never fds
//!   that mean something without one.
//! - What was sent is stored for certain only when the supervisor has [proved](proof) it. What is
//!   not counts as if there were no store, at a stop, and is sent again by a successor.
//! - What does not fit is offered again when there is room.
//! - The few memfds without which nothing counts, the [essentials], go in first and
//!   stay.

mod essentials;
mod held_back;
mod keys;
mod proof;
mod slip;
mod upkeep;

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Core;
use super::client::{Client, ClientId};
use crate::handover::document::{self, Change};
use crate::handover::journal::Journal;
use crate::handover::marks::Marks;
use crate::handover::stored::Kind;
use crate::rpc::{self, Reply};
use crate::systemd::StoreError;
use held_back::HeldBack;
use keys::Keys;
use proof::Proof;
pub(super) use slip::Slip;

/// Places that are left free for the sentinels of the next questions.
const SPARE_FDS: usize = 2;

/// How long after the journal could not be written that is tried again.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// How long the supervisor may take to take everything, before an exec or an exit.
const DRAIN_PERIOD: Duration = Duration::from_secs(1);

/// What is kept, for whoever comes after us.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Fds that the store takes, as far as that is known; 0: there is none.
    pub(super) fds_max: usize,
    /// Fds that it takes by what is said of it.
    pub(super) said_max: usize,
    keys: Keys,
    journal: Option<Journal>,
    journal_failed_at: Option<Instant>,
    /// The journal is worth renewing.
    is_stale: bool,
    /// A change could not be noted.
    is_incomplete: bool,
    /// By name; see [`essentials`].
    essentials: Vec<(String, OwnedFd)>,
    /// A predecessor's, not in use yet.
    adopted: Vec<(String, OwnedFd)>,
    /// What clients are owed.
    calls: Option<Arc<Marks>>,
    proof: Proof,
    /// What has been named since it was begun to go through everything.
    claimed: Option<HashSet<String>>,
    /// What a predecessor has stored and nobody has claimed, to be removed.
    unclaimed: Vec<String>,
    /// Items that may be sent before the supervisor has to prove them; `None`: any number.
    offers_max: Option<usize>,
    /// Everything was taken out, so that the essentials fit.
    is_begun_anew: bool,
    /// Something did not fit.
    has_unstored: bool,
    /// It may fit now.
    has_room: bool,
    /// Items keep names under which they could not be sent again.
    is_to_send_again: bool,
    /// What was refused may be in the store all the same, and systemd stores nothing under a second
    /// name: nothing is offered until the removals are sent.
    removals_first: bool,
    held_back: HeldBack,
    /// Keys of items that were removed, of which the daemon is told when the supervisor has heard it.
    leaving: HashSet<u64>,
    /// It is asked about them although nothing was sent.
    is_to_ask_for_leaving: bool,
    complaint: String,
}

impl Keeping {
    /// An answer that has to wait.
    pub(super) fn hold_back(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        self.held_back.push((client, result));
    }

    fn claim(&mut self, name: &str) {
        if let Some(claimed) = &mut self.claimed {
            claimed.insert(name.to_owned());
        }
    }
}

impl<O> Core<O> {
    /// Whether there is a store, so that what others depend on outlives this process.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.keeping.fds_max > 0
    }

    /// Whether all that is kept is with the supervisor, and nothing on the way to it.
    #[must_use]
    pub fn is_all_sent(&self) -> bool {
        self.supervision.notify.waiting() == 0
    }

    /// Whether an item is in the store for certain.
    #[must_use]
    pub fn is_stored(&self, kind: Kind, key: u64) -> bool {
        let name = kind.name(key);
        self.has_store()
            && self.supervision.notify.has(&name)
            && self.keeping.proof.is_proved(&name)
    }

    /// Has fds kept, as `change` says without its key, which is given; `None` when there is no room
    /// for them.
    pub fn keep(&mut self, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) -> Option<u64> {
        if !self.is_room_for(fds.len()) {
            return None;
        }
        let key = self.keeping.keys.take();
        self.send(key, kind, fds, change).then_some(key)
    }

    /// Has an item kept that has a key: notes it, and sends its fds if the store may lack them.
    /// Without room for them the key is given back, and `false`.
    pub fn keep_as(
        &mut self,
        key: u64,
        kind: Kind,
        fds: &[BorrowedFd<'_>],
        change: Change,
    ) -> bool {
        let name = kind.name(key);
        let is_there = self.supervision.notify.has(&name);
        if is_there && (self.keeping.claimed.is_none() || self.keeping.proof.is_proved(&name)) {
            self.keeping.claim(&name);
            if kind != Kind::Pipe {
                self.note(&Change { key: Some(key), ..change });
            }
            return true;
        }
        self.supervision.notify.forget(&name);
        if is_there || self.is_room_for(fds.len()) {
            self.send_again(key, kind, fds, change);
            return true;
        }
        self.forget(kind, key);
        // It may be in the store still, which would not take it under another name.
        self.keeping.removals_first = true;
        false
    }

    /// Something is to be offered once the supervisor has taken what it was sent.
    pub fn has_more_to_store(&mut self) {
        self.keeping.has_unstored = true;
    }

    fn is_room_for(&mut self, fds: usize) -> bool {
        if !self.has_store() {
            return false;
        }
        let (notify, keeping) = (&self.supervision.notify, &mut self.keeping);
        let is_room = !keeping.removals_first
            && notify.stored_fds() + fds + SPARE_FDS <= keeping.fds_max
            && notify.has_room(fds)
            && keeping.offers_max.is_none_or(|most| keeping.proof.sent_count() < most);
        keeping.has_unstored |= !is_room;
        if !is_room && keeping.offers_max.is_none() && !keeping.removals_first {
            self.complain("it is full");
        }
        is_room
    }

    fn send(&mut self, key: u64, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) -> bool {
        let name = kind.name(key);
        if kind != Kind::Pipe {
            self.note(&Change { key: Some(key), ..change });
        }
        if let Err(error) = self.supervision.notify.store(&name, fds) {
            self.note(&Change { key: Some(key), ..Change::default() });
            self.keeping.keys.give_back(key);
            self.could_not_send(&error);
            return false;
        }
        self.keeping.claim(&name);
        self.keeping.proof.sent(&name);
        true
    }

    /// Sends an item that the store may have under the same name. One that cannot be sent now, for want
    /// of descriptors, keeps its name, under which it is sent as soon as it can be.
    fn send_again(&mut self, key: u64, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) {
        let name = kind.name(key);
        if kind != Kind::Pipe {
            self.note(&Change { key: Some(key), ..change });
        }
        self.keeping.claim(&name);
        match self.supervision.notify.store(&name, fds) {
            Ok(()) => self.keeping.proof.sent(&name),
            Err(error) => {
                self.keeping.is_to_send_again = true;
                self.could_not_send(&error);
            }
        }
    }

    /// Something could not be sent, for want of descriptors, and is offered again before long: there may
    /// be no answer to wait for.
    fn could_not_send(&mut self, error: &StoreError) {
        self.keeping.has_unstored = true;
        self.supervision.store_is_to_be_seen_to(&mut self.reactor);
        self.complain(&error.to_string());
    }

    /// What is known of an item has changed.
    pub fn note(&mut self, change: &Change) {
        match self.keeping.journal.as_mut().map(|journal| journal.note(change)) {
            Some(Ok(is_stale)) => self.keeping.is_stale |= is_stale,
            Some(Err(error)) => {
                self.complain(&error.to_string());
                self.keeping.is_incomplete = true;
            }
            None => {}
        }
    }

    /// An item has gone. A lock of its is to be released before.
    pub fn forget(&mut self, kind: Kind, key: u64) {
        self.note(&Change { key: Some(key), ..Change::default() });
        self.keeping.proof.remove(&mut self.supervision.notify, &kind.name(key));
        self.keeping.keys.give_back(key);
    }

    /// Has [`Daemon::has_left_store`](super::Daemon::has_left_store) called when the supervisor has heard
    /// that an item [has gone](Self::forget): until then it may close the last fd of it. `false`: it does
    /// not have it.
    pub fn watch_removal(&mut self, kind: Kind, key: u64) -> bool {
        let name = kind.name(key);
        let is_there = self.has_store() && self.keeping.proof.removed().any(|it| it == name);
        if is_there {
            self.keeping.leaving.insert(key);
            self.keeping.is_to_ask_for_leaving = true;
        }
        is_there
    }

    /// Has a client's connection kept, so that its end is noticed by whoever comes after us; or
    /// notes what has changed about one that is kept. `false` when there is no room for it.
    pub fn keep_client(&mut self, id: ClientId, record: document::Client) -> bool {
        let server = self.servers.get_mut(id.server);
        // Out of the way, as a copy of its socket would need a descriptor, and there may be none.
        let Some(mut client) = server.clients.remove(&id.number) else { return true };
        let record = document::Client {
            id: Some(id.number),
            conn_time: Some(client.connected_at_s()),
            ..record
        };
        let is_kept = self.keep_connection(&mut client, record);
        if !is_kept {
            client.keep_no_more();
        }
        self.servers.get_mut(id.server).clients.insert(id.number, client);
        is_kept
    }

    fn keep_connection(&mut self, client: &mut Client, record: document::Client) -> bool {
        let change = Change { client: Some(record), ..Change::default() };
        let Some(calls) = self.keeping.calls.clone() else { return false };
        match client.key() {
            Some(key) => self.keep_as(key, Kind::Client, &[client.socket().as_fd()], change),
            None if !self.is_room_for(1) => false,
            None => {
                let key = self.keeping.keys.take();
                client.keep_as(key, Some(Slip::new(calls, key)));
                self.send(key, Kind::Client, &[client.socket().as_fd()], change)
            }
        }
    }

    /// Whether a client's connection is kept.
    #[must_use]
    pub fn keeps_client(&mut self, id: ClientId) -> bool {
        self.servers.client(id).is_some_and(|client| client.key().is_some())
    }

    /// Waits a while until the supervisor has everything that it was sent; whether it has.
    pub(super) fn drain_store(&mut self) -> bool {
        !self.has_store() || self.supervision.notify.drain(DRAIN_PERIOD)
    }

    /// Whether the supervisor has not taken everything yet.
    pub(super) fn is_to_hold_back(&mut self) -> bool {
        self.has_store() && self.keeping.held_back.is_needed(self.supervision.notify.waiting())
    }

    /// The next answer that has waited for the supervisor.
    pub(super) fn next_held_back(&mut self) -> Option<(ClientId, Result<Reply, rpc::Error>)> {
        self.keeping.held_back.next(self.supervision.notify.waiting())
    }

    /// Gives all answers that wait for the supervisor.
    pub(super) fn hold_nothing_back(&mut self) {
        while let Some((client, result)) = self.keeping.held_back.take() {
            self.answer_now(client, result);
        }
    }

    /// Says once why something is not in the store.
    fn complain(&mut self, reason: &str) {
        if self.keeping.complaint != reason {
            reason.clone_into(&mut self.keeping.complaint);
            tracing::error!(
                target: "util.systemd",
                "Not everything is in the fd store, and would be lost in a crash: {reason}"
            );
        }
    }

    /// What the store may have, for a successor: a name for each fd.
    pub(super) fn stored_names(&self) -> Vec<String> {
        let stored = self.supervision.notify.stored();
        let names = stored.into_iter().flat_map(|(name, count)| std::iter::repeat_n(name, count));
        names.chain(self.keeping.proof.removed().map(str::to_owned)).collect()
    }

    /// What among that was removed, and is not there under the same name again.
    pub(super) fn removed_names(&self) -> Vec<String> {
        let notify = &self.supervision.notify;
        let removed = self.keeping.proof.removed().filter(|name| !notify.has(name));
        removed.map(str::to_owned).collect()
    }

    /// What among that is not known to be there.
    pub(super) fn unproved_names(&self) -> Vec<String> {
        self.keeping.proof.unproved()
    }

    /// Has removed once more what a predecessor has removed: it may be there still, under another name
    /// than what is to be stored, and systemd stores nothing twice.
    pub fn remove_again(&mut self, names: &[String]) {
        self.keeping.proof.remove_again(&mut self.supervision.notify, names);
    }

    /// What the store may have, as a predecessor, or the supervisor, says; and what among that is
    /// not known to be there.
    pub fn adopt_store(&mut self, names: &[String], unproved: &[String]) {
        names.iter().for_each(|name| self.supervision.notify.is_stored(name));
        self.keeping.proof.doubt(unproved);
    }
}

//! The supervisor's fd store: what is in it, so that a process that comes after a crash finds it.
//!
//! - An item's record is in the [journal](crate::handover::journal) before its fds are sent, and
//!   goes before they do. So there may be a record without fds, which means nothing, and never fds
//!   that mean something without one.
//! - What was sent is stored for certain only when the supervisor has [proved](proof) it. What is
//!   not counts as if there were no store, at a stop, and is sent again by a successor.
//! - What does not fit is offered again when there is room.
//! - The few memfds without which nothing counts, the [essentials](essentials), go in first and
//!   stay.

mod essentials;
mod held_back;
mod keys;
mod proof;
mod slip;

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, ClientId};
use super::{Core, Daemon};
use crate::handover::document::{self, Change};
use crate::handover::journal::Journal;
use crate::handover::marks::Marks;
use crate::handover::stored::{Kind, key_of};
use crate::rpc::{self, Reply};
use held_back::HeldBack;
use keys::Keys;
use proof::{Answer, Proof};
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
    /// Something did not fit.
    has_unstored: bool,
    /// It may fit now.
    has_room: bool,
    held_back: HeldBack,
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
            return self.send(key, kind, fds, change);
        }
        self.forget(kind, key);
        false
    }

    fn is_room_for(&mut self, fds: usize) -> bool {
        if !self.has_store() {
            return false;
        }
        let (notify, keeping) = (&self.supervision.notify, &mut self.keeping);
        let is_room = notify.stored_fds() + fds + SPARE_FDS <= keeping.fds_max
            && notify.has_room(fds)
            && keeping.offers_max.is_none_or(|most| keeping.proof.sent_count() < most);
        keeping.has_unstored |= !is_room;
        if !is_room && keeping.offers_max.is_none() {
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
            self.keeping.has_unstored = true;
            self.complain(&error.to_string());
            return false;
        }
        self.keeping.claim(&name);
        self.keeping.proof.sent(&name);
        true
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

    /// Has a client's connection kept, so that its end is noticed by whoever comes after us; or
    /// notes what has changed about one that is kept. `false` when there is no room for it.
    pub fn keep_client(&mut self, id: ClientId, record: document::Client) -> bool {
        let Some(client) = self.servers.client(id) else { return true };
        let record = document::Client {
            id: Some(id.number),
            conn_time: Some(client.connected_at_s()),
            ..record
        };
        let change = Change { client: Some(record), ..Change::default() };
        let (key, socket) = (client.key(), client.socket().try_clone());
        let (Ok(socket), Some(calls)) = (socket, self.keeping.calls.clone()) else { return false };
        let fds = [socket.as_fd()];
        let is_kept = match key {
            Some(key) => self.keep_as(key, Kind::Client, &fds, change),
            None if !self.is_room_for(fds.len()) => return false,
            None => {
                let key = self.keeping.keys.take();
                if let Some(client) = self.servers.client(id) {
                    client.keep_as(key, Some(Slip::new(calls, key)));
                }
                self.send(key, Kind::Client, &fds, change)
            }
        };
        if let Some(client) = self.servers.client(id).filter(|_| !is_kept) {
            client.keep_no_more();
        }
        is_kept
    }

    /// Whether a client's connection is kept.
    #[must_use]
    pub fn keeps_client(&mut self, id: ClientId) -> bool {
        self.servers.client(id).is_some_and(|client| client.key().is_some())
    }

    /// Begins to keep, if there is a store: puts in what is not there yet and takes out what nobody
    /// has claimed. In this order: a kill in between leaves too much, not too little.
    pub(super) fn begin_keeping<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.keeping.said_max = self.store_size();
        self.keeping.fds_max = self.keeping.said_max;
        if !self.has_store() {
            return tracing::debug!(target: "util.systemd", "There is no fd store");
        }
        let found: BTreeSet<_> = self.stored_names().into_iter().collect();
        let used = found.iter().chain(self.keeping.essentials.iter().map(|(name, _)| name));
        let used = used.filter_map(|name| key_of(name)).collect();
        self.keeping.keys = Keys::beside(&used);
        let sentinels = found.iter().filter_map(|name| Kind::Sentinel.key(name));
        self.keeping.proof.number_from(sentinels.max().unwrap_or(0));
        if let Err(error) = self.prepare_essentials(&found) {
            self.keeping.fds_max = 0;
            return self.complain(&error.to_string());
        }
        daemon.keep_essentials(self);
        let mut claimed = self.keep_everything(daemon);
        claimed.extend(self.keeping.proof.sentinels().map(|(name, _)| name.to_owned()));
        self.keeping.unclaimed = found.into_iter().filter(|name| !claimed.contains(name)).collect();
    }

    /// Notes everything, and sends what the store may lack. Gives the names of all that.
    fn keep_everything<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) -> HashSet<String> {
        self.keeping.claimed = Some(HashSet::new());
        self.keeping.is_incomplete = false;
        let header = self.journal_header(daemon);
        let begun = self.keeping.journal.as_mut().map(|journal| journal.begin(&header));
        self.send_essentials();
        daemon.keep_all(self);
        let completed = match begun {
            Some(Ok(())) => self.keeping.journal.as_mut().map(Journal::complete),
            other => other,
        };
        if let Some(Err(error)) = completed {
            self.keeping.is_incomplete = true;
            self.complain(&error.to_string());
        }
        self.keeping.journal_failed_at = self.keeping.is_incomplete.then(Instant::now);
        self.keeping.claimed.take().unwrap_or_default()
    }

    /// Whether there is something to be done before the loop goes on: see [`Self::go_on_keeping`].
    pub(super) fn is_to_go_on_keeping(&self) -> bool {
        let Keeping { is_stale, is_incomplete, journal_failed_at, .. } = &self.keeping;
        let is_journal_due = *is_stale || (*is_incomplete && !self.stopping);
        let is_to_offer = self.keeping.has_room && self.keeping.has_unstored;
        (is_journal_due && journal_failed_at.is_none_or(|at| at.elapsed() > JOURNAL_PAUSE))
            || (is_to_offer && !self.stopping)
    }

    /// Renews the journal when it is due, and offers what did not fit when there is room.
    pub(super) fn go_on_keeping<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.keeping.is_incomplete && !self.stopping {
            self.keep_everything(daemon);
        } else if std::mem::take(&mut self.keeping.is_stale) {
            self.renew_journal(daemon);
        } else {
            (self.keeping.has_room, self.keeping.has_unstored) = (false, false);
            daemon.keep_more(self);
        }
    }

    /// Has the supervisor remove what has gone, and asks it to prove what it has, if that is not
    /// known.
    pub(super) fn ask_for_proof(&mut self) {
        if self.has_store() {
            self.send_removals();
            if self.keeping.proof.is_to_ask() {
                self.ask();
            }
        }
    }

    fn send_removals(&mut self) {
        let Keeping { proof, keys, has_room, .. } = &mut self.keeping;
        if proof.send_removals(&mut self.supervision.notify) {
            keys.given_back_are_free();
            *has_room = true;
        }
    }

    fn ask(&mut self) {
        let notify = &mut self.supervision.notify;
        if let Err(error) = self.keeping.proof.ask(notify, &self.reactor) {
            self.complain(&error.to_string());
            self.supervision.store_is_to_be_seen_to(&mut self.reactor);
        }
    }

    /// Whether it is known of all that was sent whether the store has it.
    pub(super) fn is_all_proved(&self) -> bool {
        self.keeping.proof.is_complete()
    }

    /// The supervisor has answered, or the store has lost something.
    pub(super) fn look_at_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        while let Some(answer) = self.keeping.proof.next_answer(&mut self.supervision.notify) {
            let Answer { is_taken, names } = answer;
            if is_taken {
                self.store_has_taken();
            } else {
                self.store_has_refused(daemon, &names);
            }
        }
        if self.keeping.proof.is_lost() {
            self.store_is_lost(daemon);
        }
    }

    /// Something that was in the store is not there any more.
    fn store_is_lost<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.has_store() {
            tracing::warn!(
                target: "util.systemd", "The fd store has lost what was in it; storing it again"
            );
            self.keeping.proof.start_over();
            self.supervision.notify.forget_all();
            self.keep_everything(daemon);
        }
    }

    /// How many fds the store has, if that is known just now; with a number that changes whenever it
    /// may have others.
    pub(super) fn proved_fds(&self) -> Option<(u64, usize)> {
        let notify = &self.supervision.notify;
        let is_known = self.has_store() && self.is_all_proved() && notify.waiting() == 0;
        is_known.then(|| (self.keeping.proof.changes(), notify.stored_fds()))
    }

    /// The supervisor says how many fds it has, having been asked when the store had the `expected`.
    pub(super) fn compare_store<D: Daemon<Outcome = O>>(
        &mut self,
        daemon: &mut D,
        expected: Option<(u64, usize)>,
        stored_fds: usize,
    ) {
        if expected.is_some_and(|(_, fds)| stored_fds < fds) && expected == self.proved_fds() {
            self.store_is_lost(daemon);
        }
    }

    fn store_has_taken(&mut self) {
        if self.are_essentials_proved() {
            self.remove_unclaimed();
        }
        let keeping = &mut self.keeping;
        keeping.offers_max = keeping.offers_max.map(|most| most.saturating_mul(2));
        keeping.has_room = true;
    }

    /// One of these names did not fit, or some: they are offered again, fewer at a time.
    fn store_has_refused<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, names: &[Box<str>]) {
        if self.are_essentials_among(names) {
            return self.essentials_are_refused(daemon);
        }
        for name in names {
            self.is_not_stored(daemon, name);
        }
        if names.is_empty() {
            return;
        }
        // What has got in after all goes out before anything else is offered.
        self.send_removals();
        let stored = self.supervision.notify.stored_fds();
        if names.len() == 1 && stored + SPARE_FDS < self.keeping.fds_max {
            let said = std::mem::replace(&mut self.keeping.fds_max, stored + SPARE_FDS);
            self.complain(&format!("it takes {stored} fds, and was said to take {said}"));
        }
        self.keeping.has_room = names.len() > 1;
        self.keeping.offers_max = Some((names.len() / 2).max(1));
        self.keeping.has_unstored = true;
        self.supervision.store_is_to_be_seen_to(&mut self.reactor);
    }

    fn is_not_stored<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, name: &str) {
        let kinds = [Kind::Log, Kind::Pipe, Kind::Lease, Kind::Client];
        let item = kinds.into_iter().find_map(|kind| Some((kind, kind.key(name)?)));
        let Some((kind, key)) = item.filter(|_| self.supervision.notify.has(name)) else { return };
        self.forget(kind, key);
        let mut clients = self.servers.main.clients.values_mut();
        let client = clients.find(|client| kind == Kind::Client && client.key() == Some(key));
        match client {
            Some(client) => {
                client.keep_no_more();
                let id = client.id();
                daemon.client_is_not_stored(id);
            }
            None => daemon.is_not_stored(kind, key),
        }
    }

    fn remove_unclaimed(&mut self) {
        for name in std::mem::take(&mut self.keeping.unclaimed) {
            self.keeping.proof.remove(&mut self.supervision.notify, &name);
            key_of(&name).into_iter().for_each(|key| self.keeping.keys.give_back(key));
        }
    }

    /// The supervisor may take more than it did.
    pub(super) fn see_to_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.stopping {
            return;
        }
        if !self.has_store() {
            return self.begin_keeping(daemon);
        }
        if self.keeping.has_unstored {
            self.keeping.fds_max = self.keeping.said_max;
            (self.keeping.has_room, self.keeping.offers_max) = (true, Some(1));
        }
    }

    /// The store takes more or less than it did.
    pub(super) fn store_has_changed(&mut self, fds_max: usize) {
        self.keeping.fds_max = fds_max;
        (self.keeping.has_room, self.keeping.offers_max) = (true, None);
    }

    /// libvirt's daemons know nothing of the store, and would not free what it holds. Gives whether
    /// the supervisor has done that.
    pub(super) fn end_keeping(&mut self) -> bool {
        if !self.has_store() {
            return true;
        }
        let notify = &mut self.supervision.notify;
        self.keeping.proof.end(notify);
        notify.remove_all();
        notify.settle(DRAIN_PERIOD)
    }

    /// Begins anew after [`Self::end_keeping`].
    pub(super) fn begin_keeping_again<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.has_store() {
            self.servers.main.clients.values_mut().for_each(Client::keep_no_more);
            daemon.keep_no_more();
            self.begin_keeping(daemon);
        }
    }

    /// There is no store any more, or none that outlives us: everything is as without.
    pub(super) fn keep_no_more<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.keeping.proof.end(&mut self.supervision.notify);
        self.supervision.notify.remove_all();
        self.keeping.fds_max = 0;
        self.servers.main.clients.values_mut().for_each(Client::keep_no_more);
        daemon.keep_no_more();
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

    /// What among that is not known to be there.
    pub(super) fn unproved_names(&self) -> Vec<String> {
        self.keeping.proof.unproved()
    }

    /// What the store may have, as a predecessor, or the supervisor, says; and what among that is
    /// not known to be there.
    pub fn adopt_store(&mut self, names: &[String], unproved: &[String]) {
        names.iter().for_each(|name| self.supervision.notify.is_stored(name));
        self.keeping.proof.doubt(unproved);
    }
}

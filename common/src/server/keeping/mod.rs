//! The supervisor's fd store: what is in it, so that a process that comes after a crash finds it.
//!
//! An item's record is in the [journal](crate::handover::journal) before its fds are stored, and
//! goes before they do. So there may be a record without fds, which means nothing, and never fds
//! that mean something without one. What is stored and not claimed by anybody after a start is taken
//! out.

mod held_back;
mod keys;
mod slip;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, ClientId};
use super::{Core, Daemon};
use crate::handover::document::{self, Change};
use crate::handover::journal::Journal;
use crate::handover::marks::Marks;
use crate::handover::stored::{Kind, key_of, keys_of};
use crate::handover::text::hex;
use crate::handover::{Passing, Reader};
use crate::rpc::{self, Reply};
use held_back::HeldBack;
use keys::Keys;
pub(super) use slip::Slip;

/// Fds for which there is always room: two journals, and marks of clients and of a daemon.
const RESERVED_FDS: usize = 4;

/// How long after a journal could not be begun that is tried again.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// How long the supervisor may take to take everything, before an exec or an exit.
const DRAIN_PERIOD: Duration = Duration::from_secs(1);

/// What is kept, for whoever comes after us.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Fds that the store takes; 0: there is none.
    pub(super) fds_max: usize,
    keys: Keys,
    journal: Option<Journal>,
    journal_number: u64,
    journal_failed_at: Option<Instant>,
    wants_new_journal: bool,
    /// What clients are owed.
    calls: Option<Arc<Marks>>,
    held_back: HeldBack,
    has_complained: bool,
}

impl Keeping {
    /// An answer that has to wait.
    pub(super) fn hold_back(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        self.held_back.push((client, result));
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
    pub fn is_all_stored(&self) -> bool {
        self.supervision.notify.waiting() == 0
    }

    /// Has fds kept, as `change` says without its key, which is given; `None` when they are not.
    pub fn keep(&mut self, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) -> Option<u64> {
        let key = self.take_key(fds.len())?;
        self.keep_as(key, kind, fds, change).then_some(key)
    }

    fn take_key(&mut self, fds: usize) -> Option<u64> {
        if !self.has_store() {
            return None;
        }
        let notify = &self.supervision.notify;
        if notify.stored_fds() + fds + RESERVED_FDS > self.keeping.fds_max || !notify.has_room(fds)
        {
            self.complain("it is full");
            return None;
        }
        if self.is_all_stored() {
            self.keeping.keys.all_is_told();
        }
        Some(self.keeping.keys.take())
    }

    fn keep_as(&mut self, key: u64, kind: Kind, fds: &[BorrowedFd<'_>], change: Change) -> bool {
        self.note(&Change { key: Some(key), ..change });
        let stored = self.supervision.notify.store(&kind.name(key), fds);
        if let Err(error) = &stored {
            self.note(&Change { key: Some(key), ..Change::default() });
            self.keeping.keys.give_back(key);
            self.complain(&error.to_string());
        }
        stored.is_ok()
    }

    /// What is known of an item has changed.
    pub fn note(&mut self, change: &Change) {
        let noted = self.keeping.journal.as_mut().map(|journal| journal.note(change));
        match noted {
            Some(Ok(is_large)) => self.keeping.wants_new_journal |= is_large,
            Some(Err(error)) => {
                self.complain(&error.to_string());
                self.keeping.wants_new_journal = true;
            }
            None => self.keeping.wants_new_journal |= self.has_store(),
        }
    }

    /// An item has gone. A lock of its is to be released before.
    pub fn forget(&mut self, kind: Kind, key: u64) {
        self.note(&Change { key: Some(key), ..Change::default() });
        self.supervision.notify.remove(&kind.name(key));
        self.keeping.keys.give_back(key);
    }

    /// Has a client's connection kept, so that its end is noticed by whoever comes after us; or
    /// notes what has changed about one that is kept.
    pub fn keep_client(&mut self, id: ClientId, record: document::Client) {
        let Some(client) = self.servers.client(id) else { return };
        let record = document::Client {
            id: Some(id.number),
            conn_time: Some(client.connected_at_s()),
            ..record
        };
        let change = Change { client: Some(record), ..Change::default() };
        if let Some(key) = client.key() {
            return self.note(&Change { key: Some(key), ..change });
        }
        let Ok(socket) = client.socket().try_clone() else { return };
        let (Some(marks), Some(key)) = (self.keeping.calls.clone(), self.take_key(1)) else {
            return;
        };
        if let Some(client) = self.servers.client(id) {
            client.keep_as(key, Some(Slip::new(marks, key)));
        }
        let is_kept = self.keep_as(key, Kind::Client, &[socket.as_fd()], change);
        if !is_kept && let Some(client) = self.servers.client(id) {
            client.keep_no_more();
        }
    }

    /// Whether a client's connection is kept.
    #[must_use]
    pub fn keeps_client(&mut self, id: ClientId) -> bool {
        self.servers.client(id).is_some_and(|client| client.key().is_some())
    }

    /// Begins to keep, if there is a store: puts in what is not there yet and takes out what nobody
    /// has claimed. In this order: a kill in between leaves too much, not too little.
    pub(super) fn begin_keeping<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.keeping.fds_max = self.store_size();
        if !self.has_store() {
            return tracing::debug!(target: "util.systemd", "There is no fd store");
        }
        let found: BTreeSet<_> = self.stored_names().into_iter().collect();
        self.keeping.keys = Keys::beside(&found.iter().filter_map(|name| key_of(name)).collect());
        let journals = found.iter().filter_map(|name| Kind::Journal.key(name));
        self.keeping.journal_number = journals.max().unwrap_or(0);
        self.begin_journal(daemon);
        self.begin_calls();
        daemon.keep_all(self);
        self.remove_unclaimed(daemon, &found);
    }

    /// libvirt's daemons know nothing of the store, and would not free what it holds. Gives whether
    /// the supervisor has taken that.
    pub(super) fn end_keeping(&mut self) -> bool {
        if !self.has_store() {
            return true;
        }
        self.supervision.notify.remove_all();
        self.drain_store()
    }

    /// Begins anew after [`Self::end_keeping`].
    pub(super) fn keep_again<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.has_store() {
            self.servers.main.clients.values_mut().for_each(Client::keep_no_more);
            daemon.keep_no_more();
            self.begin_keeping(daemon);
        }
    }

    /// There is no store any more, or none that outlives us: everything is as without.
    pub(super) fn keep_no_more<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.supervision.notify.remove_all();
        self.keeping.fds_max = 0;
        self.servers.main.clients.values_mut().for_each(Client::keep_no_more);
        daemon.keep_no_more();
    }

    /// Waits a while until the supervisor has taken everything; whether it has. Nobody waits for one
    /// that takes nothing.
    pub(super) fn drain_store(&mut self) -> bool {
        !self.has_store()
            || self.keeping.held_back.is_deaf()
            || self.supervision.notify.drain(DRAIN_PERIOD)
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

    /// Whether a new journal is to be begun: it has grown, or there is none.
    pub(super) fn wants_new_journal(&self) -> bool {
        let Keeping { wants_new_journal, journal_failed_at, .. } = &self.keeping;
        *wants_new_journal && journal_failed_at.is_none_or(|at| at.elapsed() > JOURNAL_PAUSE)
    }

    /// Begins a new journal.
    pub(super) fn begin_journal<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        let number = self.keeping.journal_number + 1;
        let stored = self.new_journal(daemon).map_err(Into::into).and_then(|journal| {
            let notify = &mut self.supervision.notify;
            notify.store(&Kind::Journal.name(number), &[journal.fd()]).map(|()| journal)
        });
        self.keeping.wants_new_journal = stored.is_err();
        self.keeping.journal_failed_at = stored.is_err().then(Instant::now);
        match stored {
            Ok(journal) => {
                let old = Kind::Journal.name(self.keeping.journal_number);
                self.supervision.notify.remove(&old);
                self.keeping.journal_number = number;
                self.keeping.journal = Some(journal);
            }
            Err(error) => self.complain(&error.to_string()),
        }
    }

    fn new_journal<D: Daemon<Outcome = O>>(&self, daemon: &D) -> io::Result<Journal> {
        let passing = Passing::default();
        let mut document = self.document(daemon, &passing, Reader::Ours)?;
        let private = document.private.get_or_insert_default();
        private.configuration_hex = Some(hex(&self.lineage.configuration));
        Journal::begin(&document)
    }

    /// Begins to note what kept clients are owed; of those that are kept already, at once.
    fn begin_calls(&mut self) {
        let marks = match Marks::new("virt-rs-calls") {
            Ok(marks) => Arc::new(marks),
            Err(error) => return self.complain(&error.to_string()),
        };
        for client in self.servers.main.clients.values_mut() {
            if let Some(key) = client.key() {
                client.keep_as(key, Some(Slip::new(Arc::clone(&marks), key)));
            }
        }
        self.keeping.calls = Some(Arc::clone(&marks));
        self.keep(Kind::Calls, &[marks.as_fd()], Change::default());
    }

    fn remove_unclaimed<D: Daemon<Outcome = O>>(&mut self, daemon: &D, found: &BTreeSet<String>) {
        let passing = Passing::default();
        let document = self.document(daemon, &passing, Reader::Ours);
        let Ok(document) = document else { return };
        let mut claimed = keys_of(&document, self.servers.main.name);
        claimed.insert(Kind::Journal.name(self.keeping.journal_number));
        for name in found.difference(&claimed) {
            self.supervision.notify.remove(name);
            key_of(name).into_iter().for_each(|key| self.keeping.keys.give_back(key));
        }
    }

    fn complain(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.keeping.has_complained, true) {
            tracing::error!(
                target: "util.systemd",
                "Not everything is in the fd store, and would be lost in a crash: {reason}"
            );
        }
    }

    /// What the store has, for a successor: a name for each fd.
    pub(super) fn stored_names(&self) -> Vec<String> {
        let stored = self.supervision.notify.stored();
        stored.into_iter().flat_map(|(name, count)| std::iter::repeat_n(name, count)).collect()
    }

    /// What the store has, as an earlier image, or the supervisor, says.
    pub fn adopt_store(&mut self, names: &[String]) {
        names.iter().for_each(|name| self.supervision.notify.is_stored(name));
    }
}

//! Upkeep of the store as a whole: filling and abandoning it, proofs, further offers of what did
//! not fit, and recovery of what it has lost.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use super::state::{DRAIN_PERIOD, JOURNAL_PAUSE, StoreState};
use crate::fd_store::journal::Journal;
use crate::fd_store::keys::Keys;
use crate::fd_store::names::{Kind, key_of};
use crate::server::client::Client;
use crate::server::core::Core;
use crate::server::daemon::Daemon;

impl<O> Core<O> {
    /// Fills the store, if there is one: adds what it lacks, then removes what is unclaimed. In
    /// this order a kill in between leaves too much, not too little.
    pub(in crate::server) fn fill_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.store.known_max = self.store_size();
        self.store.fds_max = self.store.known_max;
        if !self.has_store() {
            return tracing::debug!(target: "util.systemd", "There is no fd store");
        }
        let found: BTreeSet<_> = self.stored_names().into_iter().collect();
        if found.is_empty() {
            // Keys of a store that was emptied for libvirt's daemon would be given out again.
            self.clear_keys(daemon);
        }
        let used = found.iter().chain(self.store.essentials.iter().map(|(name, _)| name));
        let used = used.filter_map(|name| key_of(name)).collect();
        self.store.keys = Keys::beside(used);
        let sentinels = found.iter().filter_map(|name| Kind::Sentinel.key(name));
        self.store.proof.number_from(sentinels.max().unwrap_or(0));
        self.mark_unproved_without_sentinel(&found);
        if let Err(error) = self.prepare_essentials(&found) {
            self.store.fds_max = 0;
            return self.complain(&error.to_string());
        }
        daemon.store_essentials(self);
        let mut claimed = self.store_everything(daemon);
        claimed.extend(self.store.proof.sentinels().map(|(name, _)| name.to_owned()));
        self.store.unclaimed = found.into_iter().filter(|name| !claimed.contains(name)).collect();
    }

    /// Marks everything as unproved when there is no sentinel, since nothing would tell that the
    /// store was emptied after a predecessor's fds were handed over. All is sent again, which
    /// systemd recognizes as duplicates.
    fn mark_unproved_without_sentinel(&mut self, found: &BTreeSet<String>) {
        if self.store.proof.sentinels().next().is_none() {
            let notify = &self.supervision.notify;
            let names: Vec<_> = found.iter().filter(|name| notify.has(name)).cloned().collect();
            self.store.proof.doubt(&names);
        }
    }

    /// Records everything, and sends what the store may lack. Returns the names of all items.
    pub(super) fn store_everything<D: Daemon<Outcome = O>>(
        &mut self,
        daemon: &mut D,
    ) -> HashSet<String> {
        self.store.claimed = Some(HashSet::new());
        self.store.is_incomplete = false;
        let header = self.journal_header(daemon);
        // Items that were stopped and continue in another process cannot be recorded anew.
        let journal = self.store.journal.as_mut().filter(|_| !self.stopping);
        let begun = journal.map(|journal| journal.begin(&header));
        self.send_essentials();
        daemon.store_all(self);
        let completed = match begun {
            Some(Ok(())) => self.store.journal.as_mut().map(Journal::complete),
            other => other,
        };
        if let Some(Err(error)) = completed {
            self.store.is_incomplete = true;
            self.complain(&error.to_string());
        }
        self.store.journal_failed_at = self.store.is_incomplete.then(Instant::now);
        self.store.claimed.take().unwrap_or_default()
    }

    /// Returns whether [`Self::tend_store`] has work to do before the loop continues.
    pub(in crate::server) fn is_store_to_be_tended(&self) -> bool {
        let StoreState { has_room, has_unstored, .. } = self.store;
        self.is_journal_due() || (has_room && has_unstored && !self.stopping)
    }

    /// Returns whether the journal is due for rewriting. It never is while the daemon stops, as
    /// some of its records have no live item then.
    fn is_journal_due(&self) -> bool {
        let StoreState { is_stale, is_incomplete, journal_failed_at, .. } = &self.store;
        (*is_stale || (*is_incomplete && !self.stopping))
            && journal_failed_at.is_none_or(|at| at.elapsed() > JOURNAL_PAUSE)
    }

    /// Rewrites the journal when that is due, and offers unstored items when there is room.
    pub(in crate::server) fn tend_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.is_journal_due() {
            if self.store.is_incomplete && !self.stopping {
                self.store_everything(daemon);
            } else if std::mem::take(&mut self.store.is_stale) {
                self.renew_journal(daemon);
            }
        } else {
            (self.store.has_room, self.store.has_unstored) = (false, false);
            if std::mem::take(&mut self.store.is_to_send_again) {
                self.store_everything(daemon);
            }
            daemon.store_more(self);
        }
    }

    pub(super) fn send_removals(&mut self) {
        let StoreState { proof, has_room, removals_first, .. } = &mut self.store;
        *has_room |= proof.send_removals(&mut self.supervision.notify);
        *removals_first &= proof.has_removals();
    }

    pub(super) fn remove_unclaimed(&mut self) {
        for name in std::mem::take(&mut self.store.unclaimed) {
            self.store.proof.remove(&mut self.supervision.notify, &name);
            key_of(&name).into_iter().for_each(|key| self.store.keys.give_back(key));
        }
    }

    /// Offers unstored items once the supervisor may have room.
    pub(in crate::server) fn offer_unstored<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.stopping {
            return;
        }
        if !self.has_store() {
            return self.fill_store(daemon);
        }
        self.store.is_to_ask_for_leaving |= !self.store.leaving.is_empty();
        if self.store.has_unstored {
            self.store.fds_max = self.store.known_max;
            (self.store.has_room, self.store.offers_max) = (true, Some(1));
        }
    }

    /// Handles a changed capacity of the store.
    pub(in crate::server) fn store_has_changed(&mut self, fds_max: usize) {
        self.store.fds_max = fds_max;
        (self.store.has_room, self.store.offers_max) = (true, None);
    }

    /// Empties the store for libvirt's daemons, which do not know it and would leak its fds.
    /// Returns whether the supervisor has received that.
    pub(in crate::server) fn empty_store(&mut self) -> bool {
        if !self.has_store() {
            return true;
        }
        let notify = &mut self.supervision.notify;
        self.store.proof.end(notify);
        notify.settle(DRAIN_PERIOD)
    }

    /// Fills the store again after [`Self::empty_store`].
    pub(in crate::server) fn fill_store_again<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.has_store() {
            self.clear_keys(daemon);
            self.fill_store(daemon);
        }
    }

    /// Stops using the store: it has gone, or does not outlive this process.
    pub(in crate::server) fn abandon_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.store.proof.end(&mut self.supervision.notify);
        self.store.fds_max = 0;
        self.clear_keys(daemon);
    }

    fn clear_keys<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.servers.main.clients.values_mut().for_each(Client::clear_key);
        daemon.clear_store_keys();
    }
}

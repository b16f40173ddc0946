//! Proofs of the store's content, and recovery of what it has lost.

use crate::fd_store::names::{Kind, key_of};
use crate::fd_store::proof::Answer;
use crate::server::core::Core;
use crate::server::daemon::Daemon;
use crate::server::fd_store::state::{SPARE_FDS, StoreState};
use crate::server::token::Token;

impl<O> Core<O> {
    /// Sends the removals, and requests a proof if one is needed.
    pub(in crate::server) fn ask_for_proof(&mut self) {
        if self.has_store() {
            self.send_removals();
            let StoreState { proof, is_to_ask_for_leaving, .. } = &mut self.store;
            let is_for_leaving = *is_to_ask_for_leaving && proof.are_removals_unasked();
            if !is_for_leaving && !proof.is_to_ask() {
                return;
            }
            if !proof.may_ask() && !self.stopping {
                return self.supervision.try_again(&mut self.reactor);
            }
            // Removals that wait for the answer are asked about behind it.
            *is_to_ask_for_leaving &= !is_for_leaving || proof.has_removals();
            self.ask();
        }
    }

    /// Sends a sentinel in front of the first item, see [`crate::fd_store::proof`].
    pub(super) fn send_first_sentinel(&mut self) {
        if self.store.proof.has_no_sentinel() {
            self.ask();
            if self.store.proof.has_no_sentinel() {
                // There are no descriptors for one.
                self.store.proof.note_gap();
            }
        }
    }

    pub(super) fn ask(&mut self) {
        let notify = &mut self.supervision.notify;
        if let Err(error) = self.store.proof.ask(notify, &self.reactor, Token::Store) {
            self.complain(&error.to_string());
            self.supervision.schedule_store_offer(&mut self.reactor);
        }
    }

    /// Returns whether the supervisor has proved or refused everything that was sent.
    pub(in crate::server) fn is_all_proved(&self) -> bool {
        self.store.proof.is_complete()
    }

    /// Returns whether the store has lost something, as far as sentinels tell.
    pub(in crate::server) fn is_store_lost(&self) -> bool {
        self.store.proof.is_lost()
    }

    /// Handles an answer of the supervisor, or a loss in the store.
    pub(in crate::server) fn look_at_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        while let Some(answer) = self.store.proof.next_answer(&mut self.supervision.notify) {
            let Answer { is_taken, is_doubtful, names, removed } = answer;
            if is_taken {
                let keys: Vec<_> = removed.iter().filter_map(|name| key_of(name)).collect();
                self.store.keys.make_available(keys.iter().copied());
                self.store_has_taken();
                for key in keys {
                    if self.store.leaving.remove(&key) {
                        daemon.has_left_store(self, key);
                    }
                }
            } else if is_doubtful {
                tracing::info!(
                    target: "util.systemd",
                    "The supervisor may have lost messages; storing unproved fds again"
                );
                let StoreState { proof, removals_first, .. } = &mut self.store;
                proof.send_all_removals(&mut self.supervision.notify);
                *removals_first = false;
                self.store_everything(daemon);
            } else {
                self.store_has_refused(daemon, &names);
            }
        }
        if self.store.proof.is_lost() {
            self.store_is_lost(daemon);
        }
    }

    /// Stores everything again after the store has lost something.
    fn store_is_lost<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if self.has_store() {
            tracing::warn!(
                target: "util.systemd", "The fd store has lost fds; storing all of them again"
            );
            self.store.proof.start_over();
            self.supervision.notify.forget_all();
            // First, as systemd does not store an fd under a second name.
            self.send_removals();
            self.store_everything(daemon);
        }
    }

    /// Returns the number of stored fds, if it is known now, with a generation that changes
    /// whenever the number may.
    pub(in crate::server) fn proved_fds(&self) -> Option<(u64, usize)> {
        let notify = &self.supervision.notify;
        let is_known = self.has_store() && self.is_all_proved() && notify.waiting() == 0;
        is_known.then(|| (self.store.proof.changes(), notify.stored_fds()))
    }

    /// Compares the supervisor's count of fds with the `expected` count at the time of the
    /// question.
    pub(in crate::server) fn compare_store<D: Daemon<Outcome = O>>(
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
            self.store.is_begun_anew = false;
            self.remove_unclaimed();
        }
        let store = &mut self.store;
        store.offers_max = store.offers_max.map(|most| most.saturating_mul(2));
        store.has_room = true;
    }

    /// Handles a refusal of some of these names. They are offered again, fewer at a time.
    fn store_has_refused<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, names: &[Box<str>]) {
        if self.are_essentials_among(names) {
            return self.essentials_are_refused(daemon);
        }
        for name in names {
            self.item_not_stored(daemon, name);
        }
        if names.is_empty() {
            if !self.store.leaving.is_empty() {
                self.supervision.schedule_store_offer(&mut self.reactor);
            }
            return;
        }
        // Names that were accepted after all are removed before others are offered.
        self.store.removals_first = true;
        self.send_removals();
        let stored = self.supervision.notify.stored_fds();
        if names.len() == 1 && stored + SPARE_FDS < self.store.fds_max {
            let announced = std::mem::replace(&mut self.store.fds_max, stored + SPARE_FDS);
            self.complain(&format!("it takes {stored} fds, and not {announced} as announced"));
        }
        self.store.has_room = names.len() > 1;
        self.store.offers_max = Some((names.len() / 2).max(1));
        self.store.has_unstored = true;
        self.supervision.schedule_store_offer(&mut self.reactor);
    }

    fn item_not_stored<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, name: &str) {
        let kinds = [Kind::Log, Kind::Pipe, Kind::Lease, Kind::Client];
        let item = kinds.into_iter().find_map(|kind| Some((kind, kind.key(name)?)));
        let Some((kind, key)) = item.filter(|_| self.supervision.notify.has(name)) else { return };
        self.store.refusals += 1;
        self.remove_stored(kind, key);
        let mut clients = self.servers.main.clients.values_mut();
        let client = clients.find(|client| kind == Kind::Client && client.key() == Some(key));
        match client {
            Some(client) => {
                client.clear_key();
                let id = client.id();
                daemon.client_not_stored(id);
            }
            None => daemon.not_stored(kind, key),
        }
    }
}

//! Essentials of the fd store: the journal's two memfds and the slot files of clients and daemon,
//! without which nothing else in the store has a meaning. They are stored first. A successor
//! continues to use them, so it needs no further room.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::state::JOURNAL_PAUSE;
use crate::fd_store::journal::Journal;
use crate::fd_store::names::Kind;
use crate::fd_store::reply_record::ReplyRecord;
use crate::fd_store::slots::SlotFile;
use crate::handover::FdSet;
use crate::handover::document::{self, Document, PrivateDaemon, Server};
use crate::handover::text::hex;
use crate::server::core::Core;
use crate::server::daemon::Daemon;

impl<O> Core<O> {
    /// Adopts a predecessor's essentials and sentinels, by name.
    pub fn adopt_essentials(&mut self, fds: Vec<(String, OwnedFd)>) {
        let (sentinels, essentials) =
            fds.into_iter().partition(|(name, _)| Kind::Sentinel.key(name).is_some());
        self.store.adopted = essentials;
        self.store.proof.adopt(sentinels, &self.reactor, crate::server::token::Token::Store);
    }

    /// Returns a daemon's slot file as an essential: the predecessor's, or a new one.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn essential_marks(&mut self, kind: Kind, name: &str) -> io::Result<SlotFile> {
        let adopted = &mut self.store.adopted;
        let index = adopted.iter().position(|(name, _)| kind.key(name).is_some());
        let (stored_as, slots) = match index.map(|index| adopted.swap_remove(index)) {
            Some((stored_as, fd)) => (stored_as, SlotFile::from(fd)),
            None => (kind.name(self.store.keys.take()), SlotFile::new(name)?),
        };
        let fd = slots.as_fd().try_clone_to_owned()?;
        self.store.essentials.push((stored_as, fd));
        Ok(slots)
    }

    /// Passes the essentials to a successor that is executed.
    pub(in crate::server) fn pass_essentials(&self, fd_set: &FdSet) -> Vec<(String, i32)> {
        if !self.has_store() {
            return Vec::new();
        }
        let essentials = self.store.essentials.iter();
        let essentials = essentials.map(|(name, fd)| (name.clone(), fd_set.fd(fd)));
        let sentinels = self.store.proof.sentinels();
        let sentinels = sentinels.map(|(name, fd)| (name.to_owned(), fd_set.fd(fd)));
        essentials.chain(sentinels).collect()
    }

    /// Adopts or makes the journal and the clients' slot file. `found` has all names in the store.
    pub(super) fn prepare_essentials(&mut self, found: &BTreeSet<String>) -> io::Result<()> {
        if self.store.journal.is_some() {
            return Ok(());
        }
        let adopted = std::mem::take(&mut self.store.adopted).into_iter();
        let (journals, others): (Vec<_>, _) =
            adopted.partition(|(name, _)| Kind::Journal.key(name).is_some());
        self.store.adopted = others;
        let numbered = |(name, fd): (String, OwnedFd)| Some((Kind::Journal.key(&name)?, fd));
        let journal = match journals.is_empty() {
            true => {
                let last = found.iter().filter_map(|name| Kind::Journal.key(name)).max();
                Journal::new(last.unwrap_or(0).saturating_add(1))?
            }
            false => Journal::adopt(journals.into_iter().filter_map(numbered).collect())?,
        };
        for (number, fd) in journal.fds() {
            let stored_as = Kind::Journal.name(number);
            self.store.essentials.push((stored_as, fd.try_clone_to_owned()?));
        }
        self.store.journal = Some(journal);
        let calls = Arc::new(self.essential_marks(Kind::PendingReplies, "virt-rs-calls")?);
        for client in self.servers.main.clients.values_mut() {
            if let Some(key) = client.key() {
                client.set_key(key, Some(ReplyRecord::new(Arc::clone(&calls), key)));
            }
        }
        self.store.calls = Some(calls);
        Ok(())
    }

    /// Sends the essentials that the store may lack, and asks the supervisor for proof.
    pub(super) fn send_essentials(&mut self) {
        self.send_first_sentinel();
        let mut failure = None;
        for (name, fd) in &self.store.essentials {
            if let Some(claimed) = &mut self.store.claimed {
                claimed.insert(name.clone());
            }
            let notify = &mut self.supervision.notify;
            if notify.has(name) && self.store.proof.is_proved(name) {
                continue;
            }
            notify.forget(name);
            match notify.store(name, &[fd.as_fd()]) {
                Ok(()) => self.store.proof.sent(name),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            self.store.is_to_send_again = true;
            self.could_not_send(&error);
        }
        self.ask();
    }

    /// Returns whether any of these names is an essential.
    pub(super) fn are_essentials_among(&self, names: &[Box<str>]) -> bool {
        let essentials = &self.store.essentials;
        names.iter().any(|name| essentials.iter().any(|(essential, _)| **essential == **name))
    }

    /// Returns whether the store is proved to have all essentials.
    pub(super) fn are_essentials_proved(&self) -> bool {
        let notify = &self.supervision.notify;
        let mut names = self.store.essentials.iter().map(|(name, _)| name);
        names.all(|name| notify.has(name) && self.store.proof.is_proved(name))
    }

    /// Retries after the unclaimed items are removed, then after everything else is. If that fails
    /// too, there is no store.
    pub(super) fn essentials_are_refused<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        if !self.store.unclaimed.is_empty() {
            self.remove_unclaimed();
            self.send_removals();
            return self.send_essentials();
        }
        let is_empty = std::mem::replace(&mut self.store.is_begun_anew, true);
        if self.empty_store() && !is_empty {
            return self.fill_store_again(daemon);
        }
        self.complain("the supervisor does not take it");
        self.abandon_store(daemon);
        self.supervision.schedule_store_offer(&mut self.reactor);
    }

    /// Rewrites the journal from its own records.
    pub(super) fn renew_journal<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        let header = self.journal_header(daemon);
        let renewed = self.store.journal.as_mut().map(|journal| journal.renew(&header));
        self.store.journal_failed_at = None;
        if let Some(Err(error)) = renewed {
            // The current memfd stays in use.
            tracing::debug!(
                target: "util.systemd",
                "Unable to renew the journal, trying again in {} s: {error}",
                JOURNAL_PAUSE.as_secs()
            );
            self.store.is_stale = true;
            self.store.journal_failed_at = Some(Instant::now());
        }
    }

    /// Notifies that persistent settings have changed.
    pub(in crate::server) fn settings_have_changed(&mut self) {
        self.store.is_stale |= self.store.journal.is_some();
    }

    /// Returns the journal's header: everything that belongs to no item.
    pub(in crate::server) fn journal_header<D: Daemon<Outcome = O>>(
        &self,
        daemon: &D,
    ) -> Document<'static> {
        let main =
            Server { next_client_id: Some(self.servers.main.next_number), ..Server::default() };
        let servers = [(self.servers.main.name.to_owned(), main)].into();
        let private = PrivateDaemon {
            configuration_hex: Some(hex(&self.process_info.configuration.conf)),
            toml_hex: Some(hex(&self.process_info.configuration.toml))
                .filter(|hex| !hex.is_empty()),
            store_max: self.store_for_successor().1,
            ..self.overrides.save()
        };
        let mut header = Document {
            daemon: Some(document::Daemon::Named { servers }),
            private: Some(private),
            ..Document::default()
        };
        daemon.save_header(&mut header);
        header
    }
}

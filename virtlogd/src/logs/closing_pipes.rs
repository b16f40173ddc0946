//! Pipes of guests whose logs have ended, until they are closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::fd_store::names::Kind;
use common::server::Core;

use crate::guest::access::Guest;
use crate::logs::outcome::{JobResult, Outcome};

/// Pipes that are to be closed. One that the fd store may have stays open until its supervisor has
/// closed its own fd, which is never to be the last.
#[derive(Debug, Default)]
pub(crate) struct ClosingPipes {
    /// Guests of pipes that the fd store may have, by their keys there.
    stored: BTreeMap<u64, Arc<Guest>>,
    /// Descriptions of guests whose pipes are being closed, by their numbers.
    under_way: BTreeMap<u64, String>,
}

impl ClosingPipes {
    /// Closes the pipe of a log that had this key in the fd store, when that is safe.
    pub(crate) fn close(&mut self, core: &mut Core<Outcome>, key: Option<u64>, guest: Arc<Guest>) {
        match key.filter(|key| core.watch_removal(Kind::Log, *key)) {
            Some(key) => drop(self.stored.insert(key, guest)),
            None => self.close_now(core, guest),
        }
    }

    /// Closes the pipe of a log that the fd store has no more.
    pub(crate) fn close_removed(&mut self, core: &mut Core<Outcome>, key: u64) {
        if let Some(guest) = self.stored.remove(&key) {
            self.close_now(core, guest);
        }
    }

    /// Notes that the pipe of the guest with this number is closed.
    pub(crate) fn ended(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    /// Describes the job that closes the pipe of the guest with this number.
    pub(crate) fn describe(&self, number: u64) -> Option<String> {
        self.under_way.get(&number).map(|guest| format!("closing the pipe of {guest}"))
    }

    fn close_now(&mut self, core: &mut Core<Outcome>, guest: Arc<Guest>) {
        let (number, progress) = (guest.number, guest.new_progress());
        self.under_way.insert(number, guest.identity.to_string());
        core.submit_at_peer(number, progress.clone(), move || {
            let closed = progress.at_peer(|| {
                drop(guest);
                Ok(())
            });
            // It is closed all the same.
            closed.ok();
            Outcome(JobResult::Closing(number))
        });
    }
}

//! Content of the supervisor's fd store, for recovery after a crash.
//!
//! - An item's record is in the [journal](crate::fd_store::journal) before its fds are sent, and is
//!   removed before they are. A record without fds is ignored; meaningful fds always have a record.
//! - An item counts as stored only when the supervisor has [proved](crate::fd_store::proof) it. An
//!   unproved item counts as lost at a stop, and a successor sends it again.
//! - Items that do not fit are offered again when there is room.
//! - A few memfds, the [essentials], go in first and stay. Nothing else in the store has a meaning
//!   without them.

mod clients;
mod essentials;
mod items;
mod proofs;
mod state;
mod upkeep;

use super::core::Core;
use crate::fd_store::names::Kind;
use state::DRAIN_PERIOD;
pub(crate) use state::StoreState;

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

    /// Waits, within a bound, until the supervisor has received everything. Returns whether it has.
    pub(super) fn drain_store(&mut self) -> bool {
        !self.has_store() || self.supervision.notify.drain(DRAIN_PERIOD)
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

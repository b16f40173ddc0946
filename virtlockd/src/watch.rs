//! What becomes of owners: who they are, watching for their end, ending them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::server::{Caller, Core};
use nix::sys::signal::Signal;

use crate::ending::{self, Found, TERM_PERIOD};
use crate::failure::is_shortage;
use crate::handler::{Handler, Outcome};
use crate::lane::Task;
use crate::owner::{Owner, OwnerId};
use crate::protocol::Guest;
use crate::resource::{Action, Claim};

impl Handler {
    /// The owner that a guest is, which may be one that is known by its pid already.
    pub(crate) fn owner_of(
        &mut self,
        core: &mut Core<Outcome>,
        from: Caller,
        guest: &Arc<Guest>,
    ) -> OwnerId {
        let mut known = self.owners.with_pid(guest.pid);
        if let Some(id) = known
            && let Some(owner) = self.owners.get(id)
        {
            if owner.has_ended() {
                self.owner_has_ended(core, id);
                known = None;
            } else if owner.pidfd.is_some() {
                return id;
            }
        }
        match ending::find(core, from, guest.pid, self.pid_max) {
            Found::Process(pidfd) => {
                // Nobody knows whether leases that were taken unwatched are this process's: its
                // pid may have been another's then.
                let id = known.filter(|&id| !self.has_leases(id));
                let id = id.unwrap_or_else(|| self.owners.add(guest));
                self.watch(core, id, pidfd);
                id
            }
            Found::Dead => {
                if let Some(id) = known.filter(|&id| self.may_get_pidfd(id)) {
                    self.owner_has_ended(core, id);
                }
                tracing::info!(
                    target: "locking.lock_daemon",
                    "{guest} has ended before it was registered and can keep no leases"
                );
                self.owners.add_dead(guest)
            }
            Found::Unknown(error) => {
                let id = known.unwrap_or_else(|| self.owners.add(guest));
                self.stays_unwatched(id, &error);
                id
            }
        }
    }

    /// Tries again what failed for a shortage when the guest was registered, before it gets its
    /// first lease. Gives whether it may have one: not while the shortage lasts, as a guest that is
    /// not watched could not be ended.
    pub(crate) fn watch_after_all(
        &mut self,
        core: &mut Core<Outcome>,
        from: Caller,
        claim: &Claim,
    ) -> bool {
        let id = claim.owner;
        if !self.may_get_pidfd(id) || self.has_leases(id) {
            return true;
        }
        match ending::find(core, from, claim.guest.pid, self.pid_max) {
            Found::Process(pidfd) => self.watch(core, id, pidfd),
            Found::Dead => self.owner_has_ended(core, id),
            Found::Unknown(error) => self.stays_unwatched(id, &error),
        }
        !self.may_get_pidfd(id)
    }

    /// Releases everything of an owner; gives how much that is.
    pub(crate) fn disown_all(&mut self, core: &mut Core<Outcome>, owner: OwnerId) -> usize {
        let resources = self.owners.leases(owner);
        for &resource in &resources {
            self.perform(core, resource, Task::of_our_own(Action::Disown(owner)));
        }
        resources.len()
    }

    /// Asks a process to end, and sees to it later that it does.
    pub(crate) fn end(&mut self, core: &mut Core<Outcome>, id: OwnerId) {
        let Some(owner) = self.owners.get_mut(id) else {
            return;
        };
        if owner.ending.is_none() && ending::signal(owner, Signal::SIGTERM) {
            tracing::info!(
                target: "locking.lock_daemon",
                "{} has closed its connection and lost its leases; sent SIGTERM", owner.guest
            );
            owner.ending = Some(core.set_timer(TERM_PERIOD, id.0));
        }
    }

    /// Releases what a process that has ended still has.
    pub(crate) fn owner_has_ended(&mut self, core: &mut Core<Outcome>, id: OwnerId) {
        let Some(owner) = self.owners.get_mut(id) else {
            return;
        };
        if let Some(timer) = owner.ending.take() {
            core.cancel_timer(timer);
        }
        let guest = Arc::clone(&owner.guest);
        self.owners.died(id);
        let count = self.disown_all(core, id);
        if count > 0 {
            tracing::info!(
                target: "locking.lock_daemon", "{guest} has ended; releasing its {count} leases"
            );
        }
    }

    fn has_leases(&self, id: OwnerId) -> bool {
        self.owners.get(id).is_some_and(Owner::has_leases)
    }

    fn may_get_pidfd(&self, id: OwnerId) -> bool {
        self.owners.get(id).is_some_and(|owner| owner.may_get_pidfd)
    }

    pub(crate) fn watch(&mut self, core: &mut Core<Outcome>, id: OwnerId, pidfd: OwnedFd) {
        match core.watch(pidfd, id.0) {
            Ok(pidfd) => {
                if let Some(owner) = self.owners.get_mut(id) {
                    (owner.pidfd, owner.may_get_pidfd) = (Some(pidfd), false);
                }
            }
            Err(error) => self.stays_unwatched(id, &error),
        }
    }

    /// Nothing is assumed about such a guest: its leases stay until they are released or its own
    /// connection closes.
    fn stays_unwatched(&mut self, id: OwnerId, error: &std::io::Error) {
        if let Some(owner) = self.owners.get_mut(id) {
            owner.may_get_pidfd = is_shortage(error);
            tracing::info!(
                target: "locking.lock_daemon",
                "The end of {} will not be noticed: {error}", owner.guest
            );
        }
    }
}

//! What becomes of owners: who they are, watching for their end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::server::{Caller, Core};

use crate::error::file::is_shortage;
use crate::handler::{Handler, Outcome};
use crate::lockspace::queue::Task;
use crate::lockspace::resource::{Action, Claim};
use crate::owner::identity::{Identity, Known};
use crate::owner::lookup::{Found, Registrant};
use crate::owner::owners::{Owner, OwnerId};
use crate::protocol::Guest;

impl Handler {
    /// The owner that a guest is, which may be one that is known already, and whether it was the
    /// guest itself who has registered it.
    pub(crate) fn owner_of(
        &mut self,
        core: &mut Core<Outcome>,
        from: Caller,
        guest: &Arc<Guest>,
    ) -> (OwnerId, bool) {
        let registrant = Registrant::of(core, from, guest.pid, self.depth);
        let Registrant { known, is_guest, .. } = registrant;
        let living = self.living(core, guest, &known);
        if let Some(id) = living.filter(|&id| !is_guest && self.is_watched(id)) {
            return (id, false);
        }
        let found = registrant.find(guest.pid);
        if matches!(found, Found::Dead) {
            tracing::info!(
                target: "locking.lock_daemon",
                "{guest} has ended before it was registered and can keep no leases"
            );
        }
        (self.owner_found(core, guest, known, found, living), is_guest)
    }

    /// The owner that this process is.
    pub(crate) fn owner_found(
        &mut self,
        core: &mut Core<Outcome>,
        guest: &Arc<Guest>,
        known: Known,
        found: Found,
        living: Option<OwnerId>,
    ) -> OwnerId {
        match found {
            Found::Process(pidfd) => self.owner_with_pidfd(core, guest, known, pidfd, living),
            Found::Dead => {
                if let Some(id) = living.filter(|&id| self.may_get_pidfd(id)) {
                    self.owner_has_ended(core, id);
                }
                self.owners.add_dead(guest, known)
            }
            Found::Unknown(error) => {
                let id = living.unwrap_or_else(|| self.owners.add(guest, known));
                self.stays_unwatched(id, &error);
                id
            }
        }
    }

    fn owner_with_pidfd(
        &mut self,
        core: &mut Core<Outcome>,
        guest: &Arc<Guest>,
        known: Known,
        pidfd: OwnedFd,
        living: Option<OwnerId>,
    ) -> OwnerId {
        let number = known.number(guest).and_then(|number| i32::try_from(number).ok());
        let identity = number.and_then(|number| Identity::of(&pidfd, number));
        let known = Known { identity, ..known };
        if let Some(id) = living.filter(|&id| self.is_watched(id)) {
            if self.owners.get(id).is_some_and(|owner| owner.known.may_be(&known)) {
                return id;
            }
            // A process that lives has the number, so this one, which had it, has ended.
            return self.owners.add_dead(guest, known);
        }
        // Whether leases that were taken unwatched are this process's is to be proved: its pid may
        // have been another's then.
        let is_it = |id| number.and_then(|number| self.was_registered(id, &pidfd, number));
        let id = living.filter(|&id| !self.has_leases(id) || is_it(id) == Some(true));
        let id = id.unwrap_or_else(|| self.owners.add(guest, known));
        self.owners.is_known(id, known);
        self.watch(core, id, pidfd);
        id
    }

    /// The owner that is found like this and has not ended.
    pub(crate) fn living(
        &mut self,
        core: &mut Core<Outcome>,
        guest: &Guest,
        known: &Known,
    ) -> Option<OwnerId> {
        let id = self.owners.find(guest, known)?;
        if self.owners.get(id).is_some_and(Owner::has_ended) {
            self.owner_has_ended(core, id);
            return None;
        }
        Some(id)
    }

    /// Tries again what failed for a shortage when the guest was registered, before it gets its
    /// first lease. Gives for whom that is; for nobody while the shortage lasts, as a guest that is
    /// not watched could not be ended.
    pub(crate) fn watch_after_all(
        &mut self,
        core: &mut Core<Outcome>,
        from: Caller,
        claim: Claim,
    ) -> Option<Claim> {
        if !self.may_get_pidfd(claim.owner) || self.has_leases(claim.owner) {
            return Some(claim);
        }
        self.register(core, from, (*claim.guest).clone());
        let claim = self.sessions.get(&from.client)?.claim.clone()?;
        (!self.may_get_pidfd(claim.owner)).then_some(claim)
    }

    /// Releases everything of an owner; gives how much that is.
    pub(crate) fn disown_all(&mut self, core: &mut Core<Outcome>, owner: OwnerId) -> usize {
        let resources = self.owners.leases(owner);
        for &resource in &resources {
            self.perform(core, resource, Task::of_our_own(Action::Disown(owner)));
        }
        resources.len()
    }

    /// Releases what a process that has ended still has.
    pub(crate) fn owner_has_ended(&mut self, core: &mut Core<Outcome>, id: OwnerId) {
        self.ending_is_over(core, id);
        let Some(owner) = self.owners.get(id) else {
            return;
        };
        let guest = Arc::clone(&owner.guest);
        self.owners.died(id);
        let count = self.disown_all(core, id);
        if count > 0 {
            tracing::info!(
                target: "locking.lock_daemon", "{guest} has ended; releasing its {count} leases"
            );
        }
    }

    /// Whether its end will be noticed.
    pub(crate) fn is_watched(&self, id: OwnerId) -> bool {
        self.owners.get(id).is_some_and(|owner| owner.pidfd.is_some())
    }

    pub(crate) fn has_leases(&self, id: OwnerId) -> bool {
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
    fn stays_unwatched(&mut self, id: OwnerId, error: &io::Error) {
        let Some(owner) = self.owners.get_mut(id).filter(|owner| owner.pidfd.is_none()) else {
            return;
        };
        owner.may_get_pidfd = is_shortage(error);
        if !std::mem::replace(&mut owner.is_unwatched_told, true) {
            tracing::warn!(
                target: "locking.lock_daemon",
                "The end of {} will not be noticed: {error}", owner.guest
            );
        }
    }
}

//! Table of owners.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::ids::{OwnerId, ResourceId};
use crate::owner::entry::Owner;
use crate::owner::identity::{OwnerIdentity, OwnerKey};
use crate::protocol::Guest;

/// Owners that have a lease or a connection.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    owners: HashMap<OwnerId, Owner>,
    /// Owners by their pid here that are not known to be dead.
    by_number: HashMap<u32, OwnerId>,
    /// Those of other pid namespaces, by guest and pid there.
    elsewhere: BTreeSet<([u8; 16], u32, OwnerId)>,
    made: u64,
    /// Number of leases of all owners.
    leases_count: usize,
}

impl Owners {
    pub(crate) fn get(&self, id: OwnerId) -> Option<&Owner> {
        self.owners.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: OwnerId) -> Option<&mut Owner> {
        self.owners.get_mut(&id)
    }

    /// Returns the owner that a process with this identity is, or speaks for, among those that are
    /// not known to be dead.
    pub(crate) fn find(&self, guest: &Guest, identity: &OwnerIdentity) -> Option<OwnerId> {
        self.find_by(guest, identity, |owner| owner.is_same(identity))
    }

    /// Returns the owner that a record of an identity means, likewise.
    pub(crate) fn find_recorded(&self, guest: &Guest, identity: &OwnerIdentity) -> Option<OwnerId> {
        self.find_by(guest, identity, |owner| owner.may_be_same(identity))
    }

    fn find_by(
        &self,
        guest: &Guest,
        identity: &OwnerIdentity,
        is_it: impl Fn(&OwnerIdentity) -> bool,
    ) -> Option<OwnerId> {
        if !identity.is_elsewhere() {
            return self.by_number.get(&guest.pid).copied();
        }
        let all = self.elsewhere(guest).filter_map(|id| Some((id, &self.get(id)?.identity)));
        let all = all.filter(|(_, owner)| owner.may_share_namespace(identity));
        let (identified, others): (Vec<_>, Vec<_>) =
            all.partition(|(_, owner)| owner.is_by_connection());
        let is_wanted = |owner: &OwnerIdentity| !identity.is_by_connection() || is_it(owner);
        let mut wanted = identified.iter().filter(|(_, owner)| is_wanted(owner));
        let other = others.first().map(|(id, _)| *id);
        match (wanted.next(), wanted.next()) {
            (Some((id, _)), None) => Some(*id),
            // It is known by what was said for it.
            (None, _) if identified.is_empty() => other,
            _ => other.filter(|_| !identity.is_by_connection()),
        }
    }

    /// Returns the owners of other pid namespaces that are this guest with this pid.
    pub(crate) fn elsewhere(&self, guest: &Guest) -> impl Iterator<Item = OwnerId> {
        let of = |id| (guest.uuid, guest.pid, OwnerId(id));
        self.elsewhere.range(of(0)..=of(u64::MAX)).map(|(.., id)| *id)
    }

    /// Adds an owner that is not watched yet, in place of any other with the same pid here.
    pub(crate) fn add(&mut self, guest: &Arc<Guest>, identity: OwnerIdentity) -> OwnerId {
        let id = self.add_without_key(guest, identity, false);
        self.set_identity(id, identity);
        id
    }

    /// Adds an owner that has ended already: it loses at once what it gets.
    pub(crate) fn add_dead(&mut self, guest: &Arc<Guest>, identity: OwnerIdentity) -> OwnerId {
        self.add_without_key(guest, identity, true)
    }

    /// Sets the identity of an owner.
    pub(crate) fn set_identity(&mut self, id: OwnerId, identity: OwnerIdentity) {
        self.remove_key(id);
        let Some(owner) = self.owners.get_mut(&id) else { return };
        owner.identity = identity;
        let key = identity.key(&owner.guest);
        owner.key = Some(key);
        match key {
            OwnerKey::Number(pid) => drop(self.by_number.insert(pid, id)),
            OwnerKey::Elsewhere { uuid, pid } => drop(self.elsewhere.insert((uuid, pid, id))),
        }
    }

    fn remove_key(&mut self, id: OwnerId) {
        match self.owners.get_mut(&id).and_then(|owner| owner.key.take()) {
            Some(OwnerKey::Number(pid)) if self.by_number.get(&pid) == Some(&id) => {
                self.by_number.remove(&pid);
            }
            Some(OwnerKey::Elsewhere { uuid, pid }) => {
                self.elsewhere.remove(&(uuid, pid, id));
            }
            _ => {}
        }
    }

    fn add_without_key(
        &mut self,
        guest: &Arc<Guest>,
        identity: OwnerIdentity,
        is_dead: bool,
    ) -> OwnerId {
        self.made += 1;
        let id = OwnerId(self.made);
        self.owners.insert(id, Owner::new(guest, identity, is_dead));
        id
    }

    /// Counts a connection that is registered for an owner.
    pub(crate) fn connect(&mut self, id: OwnerId, guest: &Arc<Guest>, is_own: bool) {
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.guest = Arc::clone(guest);
            owner.connections += 1;
            owner.own_connections += usize::from(is_own);
        }
    }

    /// Discounts a connection of an owner.
    pub(crate) fn disconnect(&mut self, id: OwnerId, is_own: bool) {
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.connections = owner.connections.saturating_sub(1);
            owner.own_connections = owner.own_connections.saturating_sub(usize::from(is_own));
        }
        self.forget_unused(id);
    }

    /// Notes a lease of an owner.
    pub(crate) fn add_lease(&mut self, id: OwnerId, resource: ResourceId) {
        if let Some(owner) = self.owners.get_mut(&id) {
            self.leases_count += usize::from(owner.leases.insert(resource));
            owner.warn_if_outside();
        }
    }

    pub(crate) fn remove_lease(&mut self, id: OwnerId, resource: ResourceId) {
        if let Some(owner) = self.owners.get_mut(&id) {
            self.leases_count -= usize::from(owner.leases.remove(&resource));
        }
        self.forget_unused(id);
    }

    /// Marks an owner as dead. Its pid may be another's from now on.
    pub(crate) fn mark_dead(&mut self, id: OwnerId) {
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        owner.is_dead = true;
        owner.pidfd = None;
        self.remove_key(id);
        self.forget_unused(id);
    }

    /// Returns the resources that an owner has leases on.
    pub(crate) fn leases(&self, id: OwnerId) -> Vec<ResourceId> {
        self.owners.get(&id).map(|owner| owner.leases.iter().copied().collect()).unwrap_or_default()
    }

    /// Returns the owner whose lease a process that speaks for an owner may give back: another one that is
    /// not known, and has its name, if it has none itself.
    pub(crate) fn holder_for(&self, id: OwnerId, guest: &Guest, resource: ResourceId) -> OwnerId {
        let has_it = |owner: &Owner| owner.leases.contains(&resource);
        let Some(owner) = self.get(id).filter(|owner| owner.identity.is_elsewhere()) else {
            return id;
        };
        let is_it = |other: &OwnerId| {
            self.get(*other).is_some_and(|other| {
                has_it(other)
                    && !other.identity.is_by_connection()
                    && other.identity.may_share_namespace(&owner.identity)
            })
        };
        let other = self.elsewhere(guest).find(is_it);
        other.filter(|_| !has_it(owner)).unwrap_or(id)
    }

    /// Returns the number of leases of all owners.
    pub(crate) fn leases_count(&self) -> usize {
        self.leases_count
    }

    /// Returns whether an owner's end will be noticed.
    pub(crate) fn is_watched(&self, id: OwnerId) -> bool {
        self.get(id).is_some_and(|owner| owner.pidfd.is_some())
    }

    /// Returns whether another attempt to watch an owner may succeed.
    pub(crate) fn can_retry_watch(&self, id: OwnerId) -> bool {
        self.get(id).is_some_and(|owner| owner.can_retry_watch)
    }

    pub(crate) fn has_leases(&self, id: OwnerId) -> bool {
        self.get(id).is_some_and(Owner::has_leases)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerId, &Owner)> {
        self.owners.iter().map(|(&id, owner)| (id, owner))
    }

    /// Returns the owners with leases that are found by their pid.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Owner> {
        let with_leases = self.iter().filter(|(_, owner)| owner.has_leases());
        with_leases.filter(|(id, owner)| self.is_listed(*id, &owner.guest)).map(|(_, owner)| owner)
    }

    /// Returns whether an owner is found by its pid, and `guest` is its last registration.
    pub(crate) fn is_listed(&self, id: OwnerId, guest: &Arc<Guest>) -> bool {
        self.by_number.get(&guest.pid) == Some(&id)
            && self.get(id).is_some_and(|owner| Arc::ptr_eq(&owner.guest, guest))
    }

    /// Forgets an owner without leases and connections, unless it is being terminated.
    pub(crate) fn forget_unused(&mut self, id: OwnerId) {
        if let Some(owner) = self.owners.get(&id)
            && owner.connections == 0
            && owner.leases.is_empty()
            && owner.termination.is_none()
        {
            self.remove_key(id);
            self.owners.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;

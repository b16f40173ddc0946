//! Table of owners.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::{OwnerId, ResourceId};
use crate::owner::entry::Owner;
use crate::owner::identity::{OwnerIdentity, OwnerKey};
use crate::protocol::Guest;

/// Owners that have a lease or a connection.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    owners: HashMap<OwnerId, Owner>,
    /// Owners that are not known to be dead.
    by_key: HashMap<OwnerKey, OwnerId>,
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

    /// Returns the owner with this identity, if it is not known to be dead.
    pub(crate) fn find(&self, guest: &Guest, identity: &OwnerIdentity) -> Option<OwnerId> {
        let [key, _] = identity.keys(guest);
        self.by_key.get(&key?).copied()
    }

    /// Adds an owner that is not watched yet, in place of any other with the same keys.
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
        self.remove_keys(id);
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.identity = identity;
            owner.keys = identity.keys(&owner.guest);
            self.by_key.extend(owner.keys.into_iter().flatten().map(|key| (key, id)));
        }
    }

    fn remove_keys(&mut self, id: OwnerId) {
        let keys = self.owners.get_mut(&id).map(|owner| std::mem::take(&mut owner.keys));
        for key in keys.into_iter().flatten().flatten() {
            if self.by_key.get(&key) == Some(&id) {
                self.by_key.remove(&key);
            }
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

    pub(crate) fn add_lease(&mut self, id: OwnerId, resource: ResourceId) {
        if let Some(owner) = self.owners.get_mut(&id) {
            self.leases_count += usize::from(owner.leases.insert(resource));
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
        self.remove_keys(id);
        self.forget_unused(id);
    }

    /// Returns the resources that an owner has leases on.
    pub(crate) fn leases(&self, id: OwnerId) -> Vec<ResourceId> {
        self.owners.get(&id).map(|owner| owner.leases.iter().copied().collect()).unwrap_or_default()
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
        self.by_key.get(&OwnerKey::Number(guest.pid)) == Some(&id)
            && self.get(id).is_some_and(|owner| Arc::ptr_eq(&owner.guest, guest))
    }

    /// Forgets an owner without leases and connections, unless it is being terminated.
    pub(crate) fn forget_unused(&mut self, id: OwnerId) {
        if let Some(owner) = self.owners.get(&id)
            && owner.connections == 0
            && owner.leases.is_empty()
            && owner.termination.is_none()
        {
            self.remove_keys(id);
            self.owners.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lockspace::table::Lockspaces;

    fn guest(pid: u32) -> Arc<Guest> {
        Arc::new(Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid })
    }

    fn with_pid(owners: &Owners, pid: u32) -> Option<OwnerId> {
        owners.find(&guest(pid), &OwnerIdentity::BY_NUMBER)
    }

    #[test]
    fn an_owner_is_kept_while_it_has_a_connection_or_a_lease() {
        let (mut owners, guest) = (Owners::default(), guest(7));
        let resource = Lockspaces::new().resource(b"", b"/image").unwrap();
        let owner = owners.add(&guest, OwnerIdentity::BY_NUMBER);
        owners.connect(owner, &guest, false);
        owners.add_lease(owner, resource);
        owners.disconnect(owner, false);
        assert_eq!((with_pid(&owners, 7), owners.leases(owner)), (Some(owner), vec![resource]));
        owners.remove_lease(owner, resource);
        assert_eq!((with_pid(&owners, 7), owners.leases(owner)), (None, vec![]));
    }

    #[test]
    fn the_pid_of_the_dead_can_be_anothers() {
        let (mut owners, guest) = (Owners::default(), guest(7));
        let dead = owners.add(&guest, OwnerIdentity::BY_NUMBER);
        owners.connect(dead, &guest, false);
        owners.mark_dead(dead);
        let living = owners.add(&guest, OwnerIdentity::BY_NUMBER);
        owners.connect(living, &guest, false);
        assert!(owners.get(dead).unwrap().is_dead);
        owners.disconnect(dead, false);
        assert_eq!((with_pid(&owners, 7), dead == living), (Some(living), false));
        assert!(owners.get(dead).is_none());
    }

    #[test]
    fn who_was_dead_before_is_nobody_elses_predecessor() {
        let (mut owners, guest) = (Owners::default(), guest(7));
        let dead = owners.add_dead(&guest, OwnerIdentity::BY_NUMBER);
        owners.connect(dead, &guest, false);
        assert_eq!(with_pid(&owners, 7), None);
        let living = owners.add(&guest, OwnerIdentity::BY_NUMBER);
        owners.disconnect(dead, false);
        assert!(owners.get(dead).is_none());
        assert_eq!(with_pid(&owners, 7), Some(living));
    }

    #[test]
    fn only_who_is_connected_itself_and_has_a_lease_depends_on_us() {
        let (mut owners, guest) = (Owners::default(), guest(7));
        let resource = Lockspaces::new().resource(b"", b"/image").unwrap();
        let owner = owners.add(&guest, OwnerIdentity::BY_NUMBER);
        let mut depends = |change: &dyn Fn(&mut Owners)| {
            change(&mut owners);
            owners.get(owner).unwrap().depends_on_daemon()
        };
        assert!(!depends(&|owners| owners.connect(owner, &guest, false)));
        assert!(!depends(&|owners| owners.add_lease(owner, resource)));
        assert!(depends(&|owners| owners.connect(owner, &guest, true)));
        assert!(!depends(&|owners| owners.remove_lease(owner, resource)));
    }
}

//! Owners of restored leases and registrations.

use std::collections::HashMap;
use std::sync::Arc;

use common::handover::document;
use common::handover::text::parse_uuid;
use common::sys::pidfd;

use crate::ids::OwnerId;
use crate::outcome::Core;
use crate::owner::identity::{FoundBy, OwnerIdentity, OwnerKey, ProcessIdentity};
use crate::owner::lifecycle::{find_living, owner_of_process};
use crate::owner::lookup::Lookup;
use crate::owner::owners::Owners;
use crate::owner::watch_retry::spare_last_fds;
use crate::protocol::Guest;
use crate::state::State;

/// Restored owners, living and dead.
#[derive(Default)]
pub(super) struct RestoredOwners {
    by_key: HashMap<OwnerKey, RestoredOwner>,
    /// Owners that have registered themselves in another pid namespace, by their pid there.
    elsewhere: HashMap<u32, Vec<OwnerId>>,
    /// Present and former pid namespace of the daemon, if it was started in another one.
    moved: Option<Moved>,
    /// Then all owners, by guest and pid.
    by_guest: HashMap<([u8; 16], u32), Vec<RestoredOwner>>,
}

/// Start of the daemon in another pid namespace than its predecessor's.
#[derive(Clone, Copy)]
struct Moved {
    from: u64,
    to: u64,
}

#[derive(Clone, Copy)]
struct RestoredOwner {
    id: OwnerId,
    identity: OwnerIdentity,
    is_dead: bool,
}

impl RestoredOwners {
    /// Creates a table for a daemon whose predecessor was in the pid namespace `before`.
    pub(super) fn new(before: Option<u64>, now: Option<u64>) -> Self {
        let moved = before.zip(now).filter(|(from, to)| from != to);
        let moved = moved.map(|(from, to)| Moved { from, to });
        if moved.is_some() {
            tracing::warn!(
                target: "locking.lock_daemon",
                "This daemon is in another pid namespace than before: guests are known by their connections \
                 alone"
            );
        }
        Self { moved, ..Self::default() }
    }

    /// Returns whether pids in records are of another pid namespace.
    pub(super) fn are_moved(&self) -> bool {
        self.moved.is_some()
    }

    /// Returns what the identity in a record of the predecessor means here.
    pub(super) fn translate(&self, identity: OwnerIdentity) -> OwnerIdentity {
        let Some(Moved { from, to }) = self.moved else { return identity };
        let namespace = match identity.found_by {
            FoundBy::Number => Some(from),
            FoundBy::Connection { .. } | FoundBy::Unidentified => identity.namespace,
        };
        let found_by = if namespace == Some(to) { FoundBy::Number } else { FoundBy::Unidentified };
        let namespace = namespace.filter(|_| found_by != FoundBy::Number);
        OwnerIdentity { found_by, namespace, ..identity }
    }

    /// Adds an owner. A living one replaces a dead one with the same pid.
    pub(super) fn add(
        &mut self,
        guest: &Guest,
        identity: &OwnerIdentity,
        id: OwnerId,
        is_dead: bool,
    ) {
        let owner = RestoredOwner { id, identity: *identity, is_dead };
        let of_guest = self.by_guest.get(&(guest.uuid, guest.pid)).map_or(&[][..], Vec::as_slice);
        if self.moved.is_some() && of_guest.iter().all(|known| known.id != id) {
            self.by_guest.entry((guest.uuid, guest.pid)).or_default().push(owner);
        }
        let elsewhere = self.elsewhere.get(&guest.pid);
        if identity.is_by_connection() && !elsewhere.is_some_and(|known| known.contains(&id)) {
            self.elsewhere.entry(guest.pid).or_default().push(id);
        }
        let known = self.by_key.entry(identity.key(guest)).or_insert(owner);
        if known.is_dead {
            *known = owner;
        }
    }

    /// Returns the owner with this identity. A dead one of which only the pid is known is not one
    /// of which more is known.
    pub(super) fn find(
        &self,
        living: &Owners,
        guest: &Guest,
        identity: &OwnerIdentity,
    ) -> Option<OwnerId> {
        if let Some(id) = self.find_of_guest(guest, identity) {
            return Some(id);
        }
        if identity.is_elsewhere()
            && let Some(id) = living.find_recorded(guest, identity)
        {
            return Some(id);
        }
        let RestoredOwner { id, identity: known, is_dead } =
            self.by_key.get(&identity.key(guest))?;
        let is_another =
            *is_dead && known.process_identity.is_none() && identity.process_identity.is_some();
        let is_told_apart = identity.is_elsewhere() && !is_dead;
        (!is_another && !is_told_apart && identity.may_be_same(known)).then_some(*id)
    }

    /// Returns the only owner that is this guest with this pid, whatever pid namespace that is of.
    fn find_of_guest(&self, guest: &Guest, identity: &OwnerIdentity) -> Option<OwnerId> {
        let all = self.by_guest.get(&(guest.uuid, guest.pid))?;
        let any_namespace = OwnerIdentity { namespace: None, ..*identity };
        let mut all = all.iter().filter(|owner| owner.identity.may_be_same(&any_namespace));
        let first = all.next()?;
        all.next().is_none().then_some(first.id)
    }

    /// Returns the owners that a mere pid may mean beside the process that has it here, and whether a
    /// connection of that pid namespace has named it.
    pub(super) fn with_pid(&self, pid: u32) -> (Vec<OwnerId>, bool) {
        let elsewhere = self.elsewhere.get(&pid).cloned().unwrap_or_default();
        (elsewhere, self.by_key.contains_key(&OwnerKey::Number(pid)))
    }
}

/// Returns the owner that a process is, a dead one if it has ended.
pub(super) fn restore_owner(
    state: &mut State,
    core: &mut Core,
    guest: &Arc<Guest>,
    identity: OwnerIdentity,
    found: Lookup,
    owners: &mut RestoredOwners,
) -> OwnerId {
    let found = match found {
        Lookup::Process(pidfd) if pidfd::has_ended(&pidfd) => Lookup::Dead,
        found => spare_last_fds(found),
    };
    let is_dead = matches!(found, Lookup::Dead);
    let living = find_living(state, core, guest, &identity);
    let owner = owner_of_process(state, core, guest, identity, found, living);
    owners.add(guest, &identity, owner, is_dead);
    owner
}

/// Returns whether a record says that the owner has ended.
pub(super) fn is_dead(process: Option<&document::Process>) -> bool {
    process.is_some_and(|process| process.found == Some(document::Found::Dead))
}

/// Returns whether a record says that the owner was not found.
pub(super) fn is_unidentified(process: Option<&document::Process>) -> bool {
    process.is_some_and(|process| process.found == Some(document::Found::Never))
}

/// Returns the identity in a record. Without a record the owner was looked up by its pid.
pub(super) fn identity_of(process: Option<&document::Process>) -> OwnerIdentity {
    let Some(process) = process else { return OwnerIdentity::BY_NUMBER };
    let found_by = match (process.found, process.number) {
        (None | Some(document::Found::Dead), _) => FoundBy::Number,
        (Some(document::Found::Connection), number) => FoundBy::Connection { number },
        (Some(document::Found::Never), _) => FoundBy::Unidentified,
    };
    let process_identity =
        process.inode.map(ProcessIdentity::Inode).or(process.start.map(ProcessIdentity::Start));
    OwnerIdentity { found_by, process_identity, namespace: process.namespace }
}

/// Returns the guest in a record.
pub(super) fn guest_of(document::Holder { pid, id, name, uuid, .. }: &document::Holder) -> Guest {
    Guest {
        uuid: uuid.as_deref().and_then(parse_uuid).unwrap_or_default(),
        name: name.as_deref().unwrap_or_default().as_bytes().into(),
        id: id.unwrap_or(0),
        pid: pid.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;

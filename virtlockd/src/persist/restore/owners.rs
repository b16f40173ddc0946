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
use crate::owner::watch_retry::spare_last_fds;
use crate::protocol::Guest;
use crate::state::State;

/// Restored owners, living and dead.
#[derive(Default)]
pub(super) struct RestoredOwners(HashMap<OwnerKey, RestoredOwner>);

#[derive(Clone, Copy)]
struct RestoredOwner {
    id: OwnerId,
    process_identity: Option<ProcessIdentity>,
    is_dead: bool,
}

impl RestoredOwners {
    /// Adds an owner. A living one replaces a dead one with the same pid.
    pub(super) fn add(
        &mut self,
        guest: &Guest,
        identity: &OwnerIdentity,
        id: OwnerId,
        is_dead: bool,
    ) {
        let Some(key) = identity.keys(guest)[0] else { return };
        if self.0.get(&key).is_none_or(|known| known.is_dead) {
            let process_identity = identity.process_identity;
            self.0.insert(key, RestoredOwner { id, process_identity, is_dead });
        }
    }

    /// Returns the owner with this identity. A dead one of which only the pid is known is not one
    /// of which more is known.
    pub(super) fn find(&self, guest: &Guest, identity: &OwnerIdentity) -> Option<OwnerId> {
        let &RestoredOwner { id, process_identity, is_dead } =
            self.0.get(&identity.keys(guest)[0]?)?;
        let is_another =
            is_dead && process_identity.is_none() && identity.process_identity.is_some();
        (!is_another && identity.may_be_same(&OwnerIdentity { process_identity, ..*identity }))
            .then_some(id)
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

/// Returns the identity in a record. Without a record the owner was looked up by its pid.
pub(super) fn identity_of(process: Option<&document::Process>) -> OwnerIdentity {
    let Some(process) = process else { return OwnerIdentity::BY_NUMBER };
    let found_by = match (process.found, process.number) {
        (None | Some(document::Found::Dead), _) => FoundBy::Number,
        (Some(document::Found::Connection), Some(number)) => FoundBy::Connection { number },
        (Some(document::Found::Connection), None) | (Some(document::Found::Never), _) => {
            FoundBy::Unidentified
        }
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

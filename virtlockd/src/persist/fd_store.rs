//! Leases and owners' connections in the supervisor's fd store, so that they outlive this process.
//!
//! A lease of libvirt's daemon is a POSIX lock, which ends with the process. It is stored once it is
//! [converted](crate::lockspace::lock_check::convert_all_to_ofd).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::fd_store::names::Kind;
use common::handover::document::{self, Change, Items, Lockspace};
use common::handover::{FdSet, Successor};
use common::server::{ClientId, Progress};
use common::sys::lock;

use crate::ids::{JobSubject, OwnerId, ResourceId};
use crate::lease::inherited_posix_locks::InheritedPosixLocks;
use crate::lockspace::holders::Holder;
use crate::lockspace::resource::Resource;
use crate::outcome::{Completion, Core, Outcome};
use crate::owner::owners::Owners;
use crate::persist::records::{save_guest, save_resource, save_session};
use crate::session::Session;
use crate::state::{State, Unstored};

/// Stores all leases and connections, also those that are stored already.
pub(crate) fn store_all(state: &mut State, core: &mut Core) {
    for id in state.lockspaces.ids().collect::<Vec<_>>() {
        store_lease(state, core, id);
    }
    for client in state.sessions.clients().collect::<Vec<_>>() {
        store_session(state, core, client);
    }
}

/// Stores the items that there was no room for, until there is no room again.
pub(crate) fn store_unstored(state: &mut State, core: &mut Core) {
    while let Some(item) = state.unstored.pop_first() {
        match item {
            Unstored::Lease(id) => store_lease(state, core, id),
            Unstored::Session(client) => store_session(state, core, client),
        }
        if state.unstored.contains(&item) {
            return;
        }
    }
}

/// Forgets the key of an item that there was no room for.
pub(crate) fn forget_key(state: &mut State, kind: Kind, key: u64) {
    if kind != Kind::Lease {
        return;
    }
    let lockspaces = &mut state.lockspaces;
    let mut ids = lockspaces.ids().collect::<Vec<_>>().into_iter();
    let id = ids.find(|&id| lockspaces.key(id) == Some(key));
    if let Some(resource) = id.and_then(|id| lockspaces.resource_mut(id)) {
        resource.key = None;
    }
    state.unstored.extend(id.map(Unstored::Lease));
}

/// Stores a lease, or updates what is stored of it and of its holders. Removes the one that has been
/// released.
pub(crate) fn store_lease(state: &mut State, core: &mut Core, id: ResourceId) {
    let Some(resource) = state.lockspaces.resource_mut(id) else { return };
    let Some((lease, ..)) = resource.held() else {
        if let Some(key) = resource.key.take() {
            core.remove_stored(Kind::Lease, key);
        }
        state.unstored.remove(&Unstored::Lease(id));
        return;
    };
    let (fd, hold) = lease.lock();
    if hold.is_posix() || !core.has_store() {
        return;
    }
    let (change, fds) = (lease_record(resource, &state.owners), [fd.as_fd()]);
    let key = match resource.key {
        Some(key) => core.store_as(key, Kind::Lease, &fds, change).then_some(key),
        None => core.store(Kind::Lease, &fds, change),
    };
    resource.key = key;
    if key.is_none() {
        state.unstored.insert(Unstored::Lease(id));
    }
}

/// Stores an owner's own connection, or updates what is stored of it. One that was stored stays so,
/// also when it is not the owner's own any more.
pub(crate) fn store_session(state: &mut State, core: &mut Core, client: ClientId) {
    let Some(session) = state.sessions.get(client).filter(|_| core.has_store()) else { return };
    let is_to_store = session.is_own || core.stores_client(client);
    if is_to_store && !core.store_client(client, session_record(session, &state.owners)) {
        state.unstored.insert(Unstored::Session(client));
    }
}

/// Unlocks files whose leases were released before the last process ended. Closing them frees
/// nothing while the fd store has them too.
pub(crate) fn unlock_all(core: &mut Core, fds: Vec<OwnedFd>) {
    for fd in fds {
        // The path alone tells where the job is done: `fstat(2)` may hang.
        let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let path = path.unwrap_or_default();
        let subject = JobSubject::NoResource.number();
        core.submit_at_path(&path, subject, Progress::default(), move || {
            if let Err(error) = lock::unlock(&fd, lock::Kind::Ofd) {
                tracing::debug!(
                    target: "locking.lock_daemon", "Unable to unlock a released lease of the fd store: {error}"
                );
            }
            Outcome(Completion::Ignored)
        });
    }
}

/// Returns whether all leases of an owner are stored for certain.
pub(crate) fn are_leases_stored(state: &State, core: &Core, owner: OwnerId) -> bool {
    state.owners.leases(owner).into_iter().all(|id| is_lease_stored(state, core, id))
}

/// Returns whether a lease is stored for certain.
pub(crate) fn is_lease_stored(state: &State, core: &Core, id: ResourceId) -> bool {
    state.lockspaces.key(id).is_some_and(|key| core.is_stored(Kind::Lease, key))
}

/// Forgets all keys, as the fd store has been emptied.
pub(crate) fn clear_store_keys(state: &mut State) {
    state.unstored.clear();
    for id in state.lockspaces.ids().collect::<Vec<_>>() {
        if let Some(resource) = state.lockspaces.resource_mut(id) {
            resource.key = None;
        }
    }
}

fn lease_record(resource: &Resource, owners: &Owners) -> Change {
    let describe = |owner, holder: &Holder| save_guest(&holder.guest, owners.get(owner));
    let (posix, fd_set) = (InheritedPosixLocks::default(), FdSet::default());
    let saved = save_resource(resource, &posix, &fd_set, Successor::Ours, describe);
    let resources = Some(Items::Read(saved.into_iter().collect()));
    let lease = Lockspace { resources, ..Lockspace::at(&resource.space) };
    Change { lease: Some(lease), ..Change::default() }
}

fn session_record(session: &Session, owners: &Owners) -> document::Client {
    let private_data = Some(save_session(Some(session), owners));
    document::Client { private_data, ..document::Client::default() }
}

//! Life of owners: identified when they register, watched, and their leases released at their end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::server::Caller;

use crate::error::file::is_shortage;
use crate::ids::OwnerId;
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::queue::Task;
use crate::message::log_about;
use crate::outcome::Core;
use crate::owner::entry::Owner;
use crate::owner::identity::{OwnerIdentity, ProcessIdentity};
use crate::owner::lookup::Lookup;
use crate::owner::registrant::Registrant;
use crate::owner::termination;
use crate::protocol::Guest;
use crate::state::State;

/// Returns the owner that a guest is, known before or new, and whether the guest has registered
/// itself.
pub(crate) fn identify(
    state: &mut State,
    core: &mut Core,
    from: Caller,
    guest: &Arc<Guest>,
    is_restricted: bool,
) -> (OwnerId, bool) {
    let depth = state.pid_namespace_depth;
    let registrant = Registrant::of(core, from, guest.pid, is_restricted, depth);
    let Registrant { identity, is_guest, .. } = registrant;
    let living = find_living(state, core, guest, &identity);
    if let Some(id) = living.filter(|&id| !is_guest && state.owners.is_watched(id)) {
        return (id, false);
    }
    let found = registrant.find(guest.pid);
    if matches!(found, Lookup::Dead) {
        log_about!(
            info,
            guest,
            "{guest} had ended before it was registered; its leases will be released at once"
        );
    }
    (owner_of_process(state, core, guest, identity, found, living), is_guest)
}

/// Returns the owner that a process is, which may be the `living` one of the same number.
pub(crate) fn owner_of_process(
    state: &mut State,
    core: &mut Core,
    guest: &Arc<Guest>,
    identity: OwnerIdentity,
    found: Lookup,
    living: Option<OwnerId>,
) -> OwnerId {
    match found {
        Lookup::Process(pidfd) => owner_with_pidfd(state, core, guest, identity, pidfd, living),
        Lookup::Dead => {
            let is_it = |id: OwnerId| {
                state.owners.can_retry_watch(id)
                    || (identity.is_by_connection() && !state.owners.is_watched(id))
            };
            if let Some(id) = living.filter(|&id| is_it(id)) {
                owner_ended(state, core, id);
            }
            state.owners.add_dead(guest, identity)
        }
        Lookup::Unknown(error) => {
            let id = living.unwrap_or_else(|| state.owners.add(guest, identity));
            if identity.is_by_connection() {
                state.owners.set_identity(id, identity);
            }
            leave_unwatched(state, id, &error);
            id
        }
    }
}

fn owner_with_pidfd(
    state: &mut State,
    core: &mut Core,
    guest: &Arc<Guest>,
    identity: OwnerIdentity,
    pidfd: OwnedFd,
    living: Option<OwnerId>,
) -> OwnerId {
    let identity = OwnerIdentity { process_identity: ProcessIdentity::of(&pidfd), ..identity };
    if let Some(id) = living.filter(|&id| state.owners.is_watched(id)) {
        if state.owners.get(id).is_some_and(|owner| owner.identity.may_be_same(&identity)) {
            return id;
        }
        // A living process has the number, so this one, which had it, has ended.
        return state.owners.add_dead(guest, identity);
    }
    // Leases that were taken unwatched may be of an earlier process with this pid.
    let is_process = |id: OwnerId| {
        let is_process = state.owners.get(id)?.is_process(&pidfd);
        // Of another pid namespace it is the same guest in any case.
        is_process.or(identity.is_elsewhere().then_some(true))
    };
    let id = living.filter(|&id| !state.owners.has_leases(id) || is_process(id) == Some(true));
    let id = id.unwrap_or_else(|| state.owners.add(guest, identity));
    watch(state, core, id, identity, pidfd);
    id
}

/// Returns the owner with this identity, unless it has ended.
pub(crate) fn find_living(
    state: &mut State,
    core: &mut Core,
    guest: &Guest,
    identity: &OwnerIdentity,
) -> Option<OwnerId> {
    if identity.is_elsewhere() {
        let namesakes = state.owners.elsewhere(guest).collect();
        release_ended(state, core, namesakes);
    }
    let id = state.owners.find(guest, identity)?;
    if state.owners.get(id).is_some_and(Owner::has_ended) {
        owner_ended(state, core, id);
        return None;
    }
    Some(id)
}

/// Watches a process as the one that an owner is.
pub(crate) fn watch(
    state: &mut State,
    core: &mut Core,
    id: OwnerId,
    identity: OwnerIdentity,
    pidfd: OwnedFd,
) {
    state.owners.set_identity(id, identity);
    match core.watch(pidfd, id.0) {
        Ok(pidfd) => {
            if let Some(owner) = state.owners.get_mut(id) {
                (owner.pidfd, owner.can_retry_watch) = (Some(pidfd), false);
            }
        }
        Err(error) => leave_unwatched(state, id, &error),
    }
}

/// Leaves an owner unwatched: its leases stay until they are released or its own connection closes.
fn leave_unwatched(state: &mut State, id: OwnerId, error: &io::Error) {
    let Some(owner) = state.owners.get_mut(id).filter(|owner| owner.pidfd.is_none()) else {
        return;
    };
    owner.can_retry_watch = is_shortage(error);
    if !std::mem::replace(&mut owner.is_unwatched_logged, true) {
        let guest = &owner.guest;
        log_about!(
            warn,
            guest,
            "Cannot monitor {guest} for exit: {error}; its leases stay until they are released or its connection closes"
        );
    }
}

/// Releases all leases of an owner that has ended.
pub(crate) fn owner_ended(state: &mut State, core: &mut Core, id: OwnerId) {
    termination::forget(state, core, id);
    let Some(owner) = state.owners.get(id) else {
        return;
    };
    let guest = Arc::clone(&owner.guest);
    state.owners.mark_dead(id);
    let count = release_all(state, core, id);
    if count > 0 {
        log_about!(info, guest, "{guest} has ended; releasing its {count} leases");
    }
}

/// Releases the leases of those among `ids` that have ended.
pub(crate) fn release_ended(state: &mut State, core: &mut Core, ids: Vec<OwnerId>) {
    for id in ids {
        if state.owners.get(id).is_some_and(Owner::has_ended) {
            owner_ended(state, core, id);
        }
    }
}

/// Releases all leases of an owner. Returns their number.
pub(crate) fn release_all(state: &mut State, core: &mut Core, owner: OwnerId) -> usize {
    let resources = state.owners.leases(owner);
    for &resource in &resources {
        perform(state, core, resource, Task::internal(Action::ReleaseAll(owner)));
    }
    resources.len()
}

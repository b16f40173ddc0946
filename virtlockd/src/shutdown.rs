//! Stop of the daemon: guests that cannot go on without it are terminated, unless the fd store has
//! their leases.

use common::handover::Successor;

use crate::ids::OwnerId;
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::queue::Task;
use crate::message::log_about;
use crate::outcome::Core;
use crate::owner::entry::Owner;
use crate::owner::lifecycle::release_all;
use crate::owner::signals;
use crate::persist::fd_store::{are_leases_stored, is_lease_stored};
use crate::proof::watch;
use crate::state::State;

/// Stops: leases in the fd store stay there, and guests that depend on others are ended before
/// these are released. This waits for guests, as nothing is served any more.
pub(crate) fn stop(state: &mut State, core: &mut Core) {
    state.is_stopping = true;
    tell_end_of_proof(state, "stops");
    watch::rest(state);
    let all = state.owners.iter().filter(|(id, _)| !are_leases_stored(state, core, *id));
    let unstored: Vec<OwnerId> = all.map(|(id, _)| id).collect();
    let owners = unstored.iter().filter_map(|&id| state.owners.get(id));
    let is_to_end = |owner: &&Owner| owner.depends_on_daemon() && !owner.identity.is_outside();
    let (dependent, others): (Vec<_>, Vec<_>) = owners.partition(is_to_end);
    if core.has_store() {
        signals::complete_terminations(state.owners.iter().map(|(_, owner)| owner));
        tracing::info!(
            target: "locking.lock_daemon",
            "Leases in the fd store stay there; {} owners have leases that are not in it",
            unstored.len()
        );
    }
    signals::terminate_all(&dependent);
    for owner in others.iter().filter(|owner| owner.has_leases()) {
        tell_of_loss(owner);
    }
    for id in unstored {
        release_unstored(state, core, id);
    }
}

fn tell_of_loss(owner: &Owner) {
    let guest = &owner.guest;
    match owner.identity.is_outside() {
        true => log_about!(
            error,
            guest,
            "This daemon stops: {guest} cannot be ended from this pid namespace, and loses its leases. Its \
             disks are at risk"
        ),
        false => log_about!(
            warn,
            guest,
            "This daemon stops: {guest} has no connection of its own and loses its leases"
        ),
    }
}

/// Ends the prober ahead of an upgrade. With libvirt's daemon the leases on shared storage are proved
/// no more.
pub(crate) fn end_proof(state: &mut State, reader: Successor) {
    if reader == Successor::Libvirt {
        tell_end_of_proof(state, "gives way to libvirt's daemon, which knows no such policy");
    }
    watch::rest(state);
}

fn tell_end_of_proof(state: &State, what: &str) {
    let leases = state.shared.ending_leases();
    if leases > 0 {
        tracing::warn!(
            target: "locking.lock_daemon",
            "This daemon {what}: on_lost_lease = \"end\" of {leases} leases on shared storage ends with it"
        );
    }
}

/// Releases all leases of an owner that has ended, and of another those that the fd store lacks.
fn release_unstored(state: &mut State, core: &mut Core, id: OwnerId) {
    if state.owners.get(id).is_none_or(Owner::has_ended) {
        release_all(state, core, id);
        return;
    }
    let mut leases = state.owners.leases(id);
    leases.retain(|&lease| !is_lease_stored(state, core, lease));
    for lease in leases {
        perform(state, core, lease, Task::internal(Action::ReleaseAll(id)));
    }
}

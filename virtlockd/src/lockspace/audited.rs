//! Changes of leases, as the [`audit`] tells them.

use crate::audit;
use crate::error::lock::LockError;
use crate::ids::ResourceId;
use crate::lockspace::action::{Action, HolderChange};
use crate::lockspace::queue::Task;
use crate::state::State;
use common::rpc;

/// Tells of a change of a lease's holders, before it is applied to the owners.
pub(super) fn change(state: &State, id: ResourceId, task: &Task, change: HolderChange) {
    let (HolderChange::Gained(owner) | HolderChange::Lost(owner)) = change else { return };
    if !audit::is_on() {
        return;
    }
    let (Some(path), Some(owner)) = (state.lockspaces.path(id), state.owners.get(owner)) else {
        return;
    };
    let guest = match &task.action {
        Action::Acquire(registration, _) | Action::Release(registration) => &registration.guest,
        _ => &owner.guest,
    };
    match (change, &task.action) {
        (HolderChange::Gained(_), Action::Acquire(_, terms)) => audit::taken(&path, guest, *terms),
        _ if owner.has_ended() => audit::released(&path, guest, "the guest has ended"),
        _ if state.is_stopping => audit::lost(&path, &**guest, "the daemon stops"),
        _ => audit::released(&path, guest, "by its client"),
    }
}

/// Tells of the refusal of a lease.
pub(super) fn refusal(state: &State, id: ResourceId, task: &Task, error: &LockError) {
    let (Action::Acquire(registration, _), Some(client)) = (&task.action, task.client) else {
        return;
    };
    if let (true, Some(path)) = (audit::is_on(), state.lockspaces.path(id)) {
        let pid = state.sessions.get(client).map_or(0, |session| session.caller.peer.pid);
        let reason = rpc::Error::from(error);
        audit::refused(&path, pid, &registration.guest, &reason.message(), error.holders());
    }
}

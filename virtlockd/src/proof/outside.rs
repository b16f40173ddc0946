//! Leases on shared storage whose guests cannot be ended.

use crate::ids::{OwnerId, ResourceId};
use crate::message::log_about;
use crate::proof::policy::OnLostLease;
use crate::state::State;

/// Tells that a new holder of a lease could not be ended, though its lease says so.
pub(crate) fn warn_if_outside(state: &State, id: ResourceId, owner: OwnerId) {
    let Some((mount, lease)) = state.shared.mount_of(id) else { return };
    let owner = state.owners.get(owner).filter(|owner| owner.identity.is_outside());
    let Some(owner) = owner.filter(|_| lease.on_lost_lease == OnLostLease::End) else { return };
    let guest = &owner.guest;
    log_about!(
        error,
        guest,
        "on_lost_lease = \"end\" has no effect at {} for {guest}, which is outside of this daemon's pid \
         namespace",
        mount.mount.point.display()
    );
}

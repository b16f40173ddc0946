//! Restoring leases, owners and registrations from a state document.
//!
//! A lease is never given up because its record is wrong: its fd stays open, under the name and for
//! the holders that are known. No file system is asked for anything, as one that hangs would stall
//! all clients.

mod leases;
mod owners;
mod sessions;
mod unclaimed;

use std::sync::Arc;

use common::handover::InheritedFds;
use common::handover::document::{self, Document, PassedProcess};
use common::server::Caller;
use common::sys::pidfd;
use nix::errno::Errno;

pub(crate) use unclaimed::adopt_unclaimed;

use crate::lockspace::lock_check;
use crate::outcome::Core;
use crate::owner::lookup::Lookup;
use crate::owner::watch_retry;
use crate::persist::restore::leases::LeaseRestorer;
use crate::persist::restore::owners::{RestoredOwners, guest_of, identity_of, restore_owner};
use crate::persist::restore::sessions::{read_session, restore_session};
use crate::proof::track;
use crate::state::State;

/// Restores clients' registrations and leases.
pub(crate) fn restore(
    state: &mut State,
    core: &mut Core,
    document: Document<'static>,
    clients: Vec<(Caller, document::Session)>,
    inherited: &mut InheritedFds,
) {
    let mut default = document.default_lockspace.unwrap_or_default();
    default.directory = None;
    let listed = default.private.take().unwrap_or_default();
    let mut owners = RestoredOwners::new(listed.pid_namespace, state.pid_namespace);
    let are_moved = owners.are_moved();
    // A guest's own connection says most about the guest.
    let sessions = clients
        .into_iter()
        .map(|(caller, from)| read_session(state, core, caller, from, are_moved));
    let (own, others): (Vec<_>, Vec<_>) =
        sessions.collect::<Vec<_>>().into_iter().partition(|session| session.is_own);
    take_passed(state, core, listed.passed.unwrap_or_default(), inherited, &mut owners);
    for session in own.into_iter().chain(others) {
        restore_session(state, core, session, &mut owners);
    }
    let mut restorer = LeaseRestorer::new(state, core, inherited, owners);
    restorer.list_owners(listed.owners.unwrap_or_default());
    for space in document.lockspaces.into_iter().flatten().chain([default]) {
        restorer.restore_space(space);
    }
    for ending in listed.endings.into_iter().flatten() {
        if let (Some(guest), Some(deadline_ms)) = (ending.guest, ending.deadline_boot_ms) {
            restorer.restore_termination(&guest, deadline_ms);
        }
    }
    restorer.release_ended();
    state.shared.old_probers = listed.probers.unwrap_or_default();
    track::restore(state, core, listed.mounts.unwrap_or_default());
    lock_check::check_all(state, core);
    watch_retry::schedule(state, core);
}

/// Takes over pidfds of guests that cannot be looked up.
fn take_passed(
    state: &mut State,
    core: &mut Core,
    passed: Vec<PassedProcess>,
    inherited: &mut InheritedFds,
    owners: &mut RestoredOwners,
) {
    for PassedProcess { guest, fd } in passed {
        let Some(guest) = guest else { continue };
        let Ok(pidfd) = inherited.take_as(fd, Errno::EINVAL, |fd| pidfd::is_one(fd)) else {
            continue;
        };
        let identity = identity_of(guest.process.as_ref());
        let guest = Arc::new(guest_of(&guest));
        restore_owner(state, core, &guest, identity, Lookup::Process(pidfd), owners);
    }
}

//! Owners that could not be watched for a shortage of fds, as at a take-over of more owners than
//! there are fds for. They are watched later, and never take the last fds.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use common::sys::fd;
use nix::errno::Errno;

use crate::error::file::is_shortage;
use crate::ids::{OwnerId, TimerSubject};
use crate::outcome::Core;
use crate::owner::entry::Owner;
use crate::owner::identity::{OwnerIdentity, ProcessIdentity};
use crate::owner::lifecycle::{owner_ended, watch};
use crate::owner::lookup::{self, Lookup};
use crate::owner::registrant::peer_pidfd;
use crate::state::State;

/// Time between two attempts; ours.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// Fds that are left to clients and files when owners are taken over; ours.
const RESERVED_FDS: u64 = 16;

/// Sets the timer for the next attempt, if an owner with leases is not watched.
pub(crate) fn schedule(state: &mut State, core: &mut Core) {
    if !state.is_watch_retry_set && unwatched(state).next().is_some() {
        state.is_watch_retry_set = true;
        core.set_timer(RETRY_PERIOD, TimerSubject::WatchRetry.number());
    }
}

/// Looks up the owners that are not watched, until fds run short.
pub(crate) fn retry(state: &mut State, core: &mut Core) {
    state.is_watch_retry_set = false;
    for id in unwatched(state).collect::<Vec<_>>() {
        if !try_watch(state, core, id) {
            break;
        }
    }
    schedule(state, core);
}

/// Gives up a process's pidfd if it is among the last fds.
pub(crate) fn spare_last_fds(found: Lookup) -> Lookup {
    let is_among_last = |pidfd: &OwnedFd| {
        let number = u64::try_from(pidfd.as_raw_fd()).unwrap_or(0);
        fd::limit().is_some_and(|limit| number.saturating_add(RESERVED_FDS) >= limit)
    };
    match found {
        Lookup::Process(pidfd) if is_among_last(&pidfd) => Lookup::Unknown(Errno::EMFILE.into()),
        found => found,
    }
}

fn unwatched(state: &State) -> impl Iterator<Item = OwnerId> {
    let is_unwatched = |owner: &Owner| owner.can_retry_watch && owner.has_leases();
    state.owners.iter().filter(move |(_, owner)| is_unwatched(owner)).map(|(id, _)| id)
}

/// Looks an owner up that is not watched. Returns whether there were enough fds.
pub(crate) fn try_watch(state: &mut State, core: &mut Core, id: OwnerId) -> bool {
    let found = spare_last_fds(look_up(state, core, id));
    let Some(owner) = state.owners.get_mut(id) else { return true };
    let identity = owner.identity;
    match found {
        Lookup::Unknown(error) if is_shortage(&error) => return false,
        Lookup::Unknown(_) => owner.can_retry_watch = false,
        Lookup::Dead => owner_ended(state, core, id),
        // Outside of this pid namespace it is that of its own connection.
        Lookup::Process(pidfd) if identity.is_outside() => {
            let identity =
                OwnerIdentity { process_identity: ProcessIdentity::of(&pidfd), ..identity };
            watch(state, core, id, identity, pidfd);
        }
        Lookup::Process(pidfd) => match owner.is_process(&pidfd) {
            Some(true) => watch(state, core, id, identity, pidfd),
            Some(false) => owner_ended(state, core, id),
            None => owner.can_retry_watch = false,
        },
    }
    true
}

fn look_up(state: &State, core: &mut Core, id: OwnerId) -> Lookup {
    let Some(owner) = state.owners.get(id) else { return Lookup::Dead };
    if !owner.identity.is_outside() {
        return lookup::by_identity(&owner.guest, &owner.identity);
    }
    match state.sessions.own_caller_of(id) {
        Some(caller) => peer_pidfd(core, caller).into(),
        None => lookup::by_identity(&owner.guest, &owner.identity),
    }
}

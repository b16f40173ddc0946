//! Restoring the registrations of connections.

use std::sync::Arc;

use common::handover::document::{self, PrivateSession};
use common::server::Caller;

use crate::connections::set_registration;
use crate::outcome::Core;
use crate::owner::lookup::{self, Lookup};
use crate::owner::registrant::Registrant;
use crate::owner::registration::Registration;
use crate::persist::restore::owners::{
    RestoredOwners, guest_of, identity_of, is_dead, is_unidentified, restore_owner,
};
use crate::protocol::Guest;
use crate::session::Session;
use crate::state::State;

/// Restored registration of a connection.
pub(super) struct RestoredSession {
    caller: Caller,
    is_restricted: bool,
    guest: Option<Arc<Guest>>,
    pub(super) is_own: bool,
    process: Option<document::Process>,
    /// Registering process, if the record is of a daemon that did not identify the owner.
    registrant: Option<Registrant>,
}

/// Reads the record of a connection, and identifies the owner where that is missing, or
/// [may not hold any more](RestoredOwners::are_moved).
pub(super) fn read_session(
    state: &State,
    core: &mut Core,
    caller: Caller,
    from: document::Session,
    are_moved: bool,
) -> RestoredSession {
    let document::Session { owner_pid: pid, owner_id: id, owner_name, owner_uuid, .. } = from;
    let is_registered = matches!((id, pid), (Some(1..), Some(_)));
    let PrivateSession { is_own, process } = from.private.unwrap_or_default();
    let holder = document::Holder {
        pid,
        id,
        name: owner_name,
        uuid: owner_uuid,
        ..document::Holder::default()
    };
    let guest = is_registered.then(|| Arc::new(guest_of(&holder)));
    let is_restricted = from.restricted.unwrap_or(true);
    let is_known = is_known(is_own, is_restricted, process.as_ref(), are_moved);
    let guests = guest.as_ref().filter(|_| !is_known && !is_dead(process.as_ref()));
    let depth = state.pid_namespace_depth;
    let registrant =
        guests.map(|guest| Registrant::of(core, caller, guest.pid, is_restricted, depth));
    let is_own = match &registrant {
        Some(registrant) => registrant.is_guest,
        None => is_own.unwrap_or(false),
    };
    RestoredSession { caller, is_restricted, guest, is_own, process, registrant }
}

/// Returns whether a record says whose connection it is.
fn is_known(
    is_own: Option<bool>,
    is_restricted: bool,
    process: Option<&document::Process>,
    are_moved: bool,
) -> bool {
    // An earlier version did not know a guest outside of its pid namespace by that.
    let may_be_guest = is_restricted && is_own == Some(false) && is_unidentified(process);
    is_own.is_some() && !are_moved && !may_be_guest
}

/// Restores the registration of a connection.
pub(super) fn restore_session(
    state: &mut State,
    core: &mut Core,
    from: RestoredSession,
    owners: &mut RestoredOwners,
) {
    let RestoredSession { caller, is_restricted, guest, is_own, process, registrant } = from;
    let mut session = Session::new(caller);
    session.is_restricted = is_restricted;
    session.was_closed = core.has_hung_up(caller.client);
    state.sessions.insert(session);
    let Some(guest) = guest else { return };
    let identity =
        registrant.as_ref().map_or_else(|| identity_of(process.as_ref()), |r| r.identity);
    let may_be_known = !is_own && !is_dead(process.as_ref());
    let found = owners.find(&state.owners, &guest, &identity).filter(|_| may_be_known);
    let owner = found.unwrap_or_else(|| {
        let found = match registrant {
            Some(registrant) => registrant.find(guest.pid),
            None => find_again(core, caller, &guest, process.as_ref(), is_own),
        };
        restore_owner(state, core, &guest, identity, found, owners)
    });
    set_registration(state, caller.client, Registration { owner, guest }, is_own);
}

/// Looks up the process of a registration. A peer's pidfd is that of its connection where the
/// kernel has it.
pub(super) fn find_again(
    core: &mut Core,
    caller: Caller,
    guest: &Guest,
    process: Option<&document::Process>,
    is_own: bool,
) -> Lookup {
    if is_dead(process) {
        return Lookup::Dead;
    }
    let identity = identity_of(process);
    if !is_own {
        return lookup::by_identity(guest, &identity);
    }
    match core.peer_pidfd(caller.client) {
        Err(error) if lookup::lacks_peer_pidfd(&error) => lookup::by_identity(guest, &identity),
        result => result.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_unless_another_knew_less() {
        let process = |found| document::Process { found, ..document::Process::default() };
        let (nobody, number) = (process(Some(document::Found::Never)), process(None));
        for (is_own, is_restricted, process, are_moved, expected) in [
            (Some(true), true, None, false, true),
            (Some(false), false, None, false, true),
            (None, true, None, false, false),
            (Some(true), true, None, true, false),
            (Some(false), true, Some(&nobody), false, false),
            (Some(false), true, Some(&number), false, true),
            (Some(false), false, Some(&nobody), false, true),
            (Some(true), true, Some(&nobody), false, true),
        ] {
            let is_known = is_known(is_own, is_restricted, process, are_moved);
            assert_eq!(is_known, expected, "{is_own:?} {is_restricted} {are_moved}");
        }
    }
}

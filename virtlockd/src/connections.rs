//! Registration of connections, and what follows from their end.

use std::sync::Arc;

use common::server::{Caller, ClientId};

use crate::ids::OwnerId;
use crate::message::log_about;
use crate::outcome::Core;
use crate::owner::entry::Owner;
use crate::owner::lifecycle::{identify, owner_ended, release_all};
use crate::owner::registration::Registration;
use crate::owner::termination;
use crate::owner::watch_retry::try_watch;
use crate::persist::fd_store::store_session;
use crate::protocol::Guest;
use crate::session::{Disconnect, Session};
use crate::state::State;

/// Registers a connection for a guest. A registration may be replaced; leases stay with the owner
/// for which they were acquired.
pub(crate) fn register(state: &mut State, core: &mut Core, from: Caller, guest: Guest) {
    let guest = Arc::new(guest);
    let is_restricted = state.sessions.get(from.client).is_some_and(|it| it.is_restricted);
    let (owner, is_own) = identify(state, core, from, &guest, is_restricted);
    set_registration(state, from.client, Registration { owner, guest }, is_own);
    store_session(state, core, from.client);
}

/// Handles the restriction of a connection. In another pid namespace it may show that the client is the
/// guest.
pub(crate) fn restricted(state: &mut State, core: &mut Core, from: Caller) {
    let session = state.sessions.get(from.client).filter(|session| !session.is_own);
    let registration = session.and_then(|session| session.registration.clone());
    let is_elsewhere = |owner| state.owners.get(owner).is_some_and(|it| it.identity.is_elsewhere());
    match registration.filter(|it| is_elsewhere(it.owner)) {
        Some(Registration { guest, .. }) => register(state, core, from, (*guest).clone()),
        None => store_session(state, core, from.client),
    }
}

/// Sets the registration of a connection.
pub(crate) fn set_registration(
    state: &mut State,
    client: ClientId,
    registration: Registration,
    is_own: bool,
) {
    let Some(session) = state.sessions.get_mut(client) else {
        return;
    };
    state.owners.connect(registration.owner, &registration.guest, is_own);
    let was_own = std::mem::replace(&mut session.is_own, is_own);
    if let Some(last) = session.registration.replace(registration) {
        state.owners.disconnect(last.owner, was_own);
    }
}

/// Watches an owner before its first lease if fds were short when it was registered. Returns the
/// registration, which may be another then, or `None` while the shortage lasts: an owner that is
/// not watched could not be terminated.
pub(crate) fn ensure_watched(
    state: &mut State,
    core: &mut Core,
    from: Caller,
    registration: Registration,
) -> Option<Registration> {
    let is_unwatched = |state: &State, owner| state.owners.can_retry_watch(owner);
    if !is_unwatched(state, registration.owner) || state.owners.has_leases(registration.owner) {
        return Some(registration);
    }
    let identity = state.owners.get(registration.owner).map(|owner| owner.identity);
    if identity.is_some_and(|identity| identity.is_outside()) {
        try_watch(state, core, registration.owner);
        return (!is_unwatched(state, registration.owner)).then_some(registration);
    }
    register(state, core, from, (*registration.guest).clone());
    let registration = state.sessions.get(from.client)?.registration.clone()?;
    (!is_unwatched(state, registration.owner)).then_some(registration)
}

/// Handles the end of a connection, now or after its call in flight.
pub(crate) fn disconnected(
    state: &mut State,
    core: &mut Core,
    client: ClientId,
    disconnect: Disconnect,
) {
    if !state.sessions.defer_end(client, disconnect) {
        session_ended(state, core, client, disconnect);
    }
}

/// Handles the end of connections whose last call has been answered.
pub(crate) fn handle_deferred_ends(state: &mut State, core: &mut Core) {
    while let Some((client, disconnect)) = state.sessions.next_ended() {
        session_ended(state, core, client, disconnect);
    }
}

/// Keeps the leases of a guest that cannot be ended until it ends. Where its connection is all that is
/// known of it, that ends with it.
fn outside_connection_ended(
    state: &mut State,
    core: &mut Core,
    owner: OwnerId,
    guest: &Guest,
    disconnect: Disconnect,
) {
    match disconnect {
        _ if state.owners.is_watched(owner) => log_about!(
            warn,
            guest,
            "{guest} has lost its connection, and cannot be ended from this pid namespace; its leases \
             stay until it ends"
        ),
        Disconnect::Closed => owner_ended(state, core, owner),
        Disconnect::Dropped => log_about!(
            warn,
            guest,
            "{guest} has lost its connection, and nothing else tells its end; its leases stay until they \
             are released"
        ),
    }
}

/// Forgets a connection. If a guest's own connection closes while the guest lives and has leases,
/// whoever acquired them, it is terminated, and the leases are released at its end. If it cannot be
/// signalled for certain they are released at once.
fn session_ended(state: &mut State, core: &mut Core, client: ClientId, disconnect: Disconnect) {
    let Some(session) = state.sessions.remove(client) else {
        return;
    };
    let Some(Registration { owner, guest }) = &session.registration else {
        return;
    };
    if session.is_own && state.owners.has_leases(*owner) {
        own_connection_ended(state, core, *owner, guest, &session, disconnect);
    }
    state.owners.disconnect(*owner, session.is_own);
}

fn own_connection_ended(
    state: &mut State,
    core: &mut Core,
    owner: OwnerId,
    guest: &Guest,
    session: &Session,
    disconnect: Disconnect,
) {
    if state.owners.get(owner).is_none_or(Owner::has_ended) {
        return owner_ended(state, core, owner);
    }
    if state.owners.get(owner).is_some_and(|owner| owner.identity.is_outside()) {
        return outside_connection_ended(state, core, owner, guest, disconnect);
    }
    if disconnect == Disconnect::Dropped || (session.was_closed && state.owners.is_watched(owner)) {
        return log_about!(
            warn,
            guest,
            "{guest} has lost its connection; its leases stay until it ends"
        );
    }
    if !termination::begin(state, core, owner) {
        release_all(state, core, owner);
    }
}

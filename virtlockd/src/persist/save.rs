//! State document: leases, owners and clients' registrations.

use common::handover::document::{self, Document, Items, Lockspace, PrivateLockspace};
use common::handover::{FdSet, Successor};
use common::server::ClientId;

use crate::lockspace::holders::Holder;
use crate::lockspace::resource::Resource;
use crate::owner::entry::Owner;
use crate::owner::owners::Owners;
use crate::persist::records::{self, save_guest, save_resource, save_session, save_termination};
use crate::protocol::NAME;
use crate::state::State;

/// Puts all leases, and what is known of clients, into a document.
pub(crate) fn save<'a>(
    state: &'a State,
    document: &mut Document<'a>,
    fd_set: &'a FdSet,
    reader: Successor,
) {
    for client in document.clients_mut(NAME) {
        let session = client.id.map(ClientId::of_main_server);
        let session = session.and_then(|id| state.sessions.get(id));
        client.private_data = Some(save_session(session, &state.owners));
    }
    if reader == Successor::Ours
        && let Some(private) = &mut document.private
    {
        private
            .parked
            .get_or_insert_default()
            .extend(state.local_locks.posix.pass_pid_file(fd_set));
    }
    let owners = &state.owners;
    let describe = |id, holder: &Holder| match owners.is_listed(id, &holder.guest) {
        true => document::Holder { pid: Some(holder.guest.pid), ..document::Holder::default() },
        false => save_guest(&holder.guest, owners.get(id)),
    };
    let mut spaces = state.lockspaces.by_space();
    let posix = &state.local_locks.posix;
    let save = |space: &[u8], resources: Vec<&'a Resource>| Lockspace {
        resources: Some(Items::lazy(move |sink| {
            let saved = resources
                .iter()
                .filter_map(|resource| save_resource(resource, posix, fd_set, reader, describe));
            saved.for_each(sink);
        })),
        ..Lockspace::at(space)
    };
    let listed = owners.listed().map(|owner| save_guest(&owner.guest, Some(owner)));
    let private = PrivateLockspace {
        owners: Some(listed.collect()),
        directory: None,
        endings: save_terminations(owners),
        mounts: state.shared.save(),
        pid_namespace: state.pid_namespace,
        passed: pass_outside(owners, fd_set, reader),
        probers: Some(state.shared.old_probers.clone()).filter(|pids| !pids.is_empty()),
    };
    let default = save(b"", spaces.remove(&b""[..]).unwrap_or_default());
    document.default_lockspace = Some(Lockspace { private: Some(private), ..default });
    document.lockspaces =
        Some(spaces.into_iter().map(|(space, resources)| save(space, resources)).collect());
}

/// Logs the leases that libvirt's daemon will not go on with.
pub(crate) fn log_what_stays_behind(state: &State) {
    let resources = state.lockspaces.by_space().into_values().flatten();
    resources.for_each(records::log_what_stays_behind);
}

/// Puts into a document what has no key in the fd store: lockspaces, and who is being terminated.
pub(crate) fn save_without_leases(state: &State, document: &mut Document<'_>) {
    let endings = save_terminations(&state.owners);
    let pid_namespace = state.pid_namespace;
    let private = Some(PrivateLockspace { endings, pid_namespace, ..PrivateLockspace::default() });
    document.default_lockspace = Some(Lockspace { private, ..Lockspace::default() });
    let spaces = state.lockspaces.by_space().into_keys().filter(|space| !space.is_empty());
    document.lockspaces = Some(spaces.map(Lockspace::at).collect());
}

/// Passes pidfds on that the successor cannot open again.
fn pass_outside(
    owners: &Owners,
    fd_set: &FdSet,
    reader: Successor,
) -> Option<Vec<document::PassedProcess>> {
    let is_meant = |owner: &&Owner| owner.identity.is_outside() && !owner.has_own_connection();
    let owners = owners.iter().map(|(_, owner)| owner).filter(is_meant);
    let passed = owners.filter(|_| reader == Successor::Ours).filter_map(|owner| {
        let fd = Some(fd_set.fd(owner.pidfd.as_ref()?));
        Some(document::PassedProcess { guest: Some(save_guest(&owner.guest, Some(owner))), fd })
    });
    let passed: Vec<_> = passed.collect();
    (!passed.is_empty()).then_some(passed)
}

fn save_terminations(owners: &Owners) -> Option<Vec<document::Ending>> {
    let deadline =
        |owner: &Owner| owner.termination.as_ref().map(|termination| termination.deadline_ms);
    let endings = owners.iter().filter_map(|(_, owner)| Some((owner, deadline(owner)?)));
    let endings: Vec<_> =
        endings.map(|(owner, deadline)| save_termination(owner, Some(deadline))).collect();
    (!endings.is_empty()).then_some(endings)
}
